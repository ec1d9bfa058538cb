// OpenAI's and Anthropic's SDKs for Node. Prints what scripts/checks.py tells of: first what will be checked, then how
// each went. The first argument is the client: openai or anthropic.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI, { toFile } from "openai";

const { ROUTER_ROOT: root, ROUTER_KEY: apiKey, ROUTER_MODELS, ROUTER_SENTENCE: sentence } = process.env;
const models = JSON.parse(ROUTER_MODELS);
const openai = new OpenAI({ baseURL: `${root}/v1`, apiKey, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: root, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Say something." }];
const sound = new Uint8Array(36000).fill(82);

function isSaid(text) {
  const words = (text ?? "").split(/\s+/).filter(Boolean).join(" ");
  assert.ok(words, "nothing was said");
  assert.ok(`${sentence} ${sentence} ${sentence}`.includes(words), text);
}

async function status(promise, code) {
  const error = await promise.then(() => assert.fail("it was answered"), (error) => error);
  assert.ok(error.status, error.stack);
  if (code) assert.equal(error.code, code);
  return error.status;
}

const checks = {
  openai: [
    ["chat", "/v1/chat/completions", "create", async (model) => {
      const answer = await openai.chat.completions.create({ model, messages, max_tokens: 12, temperature: 0 });
      assert.equal(answer.model, model);
      assert.equal(answer.usage.completion_tokens, 12);
      isSaid(answer.choices[0].message.content);
    }],
    ["chat", "/v1/chat/completions", "stream", async (model) => {
      let text = "";
      const stream = await openai.chat.completions.create({ model, messages, max_tokens: 12, temperature: 0, stream: true });
      for await (const chunk of stream) {
        assert.equal(chunk.usage ?? null, null, "usage that was not asked for");
        text += chunk.choices[0].delta.content ?? "";
      }
      isSaid(text);
    }],
    ["chat", "/v1/chat/completions", "stream helper", async (model) => {
      const runner = openai.chat.completions.stream({ model, messages, max_tokens: 12, temperature: 0 });
      isSaid(await runner.finalContent());
    }],
    ["chat", "/v1/chat/completions", "left stream", async (model) => {
      const stream = await openai.chat.completions.create({ model, messages, max_tokens: 4000, stream: true });
      for await (const _ of stream) break; // the SDK aborts the request
      isSaid((await openai.chat.completions.create({ model, messages, max_tokens: 4, temperature: 0 })).choices[0].message.content);
    }],
    ["chat", "/v1/chat/completions", "unknown model", () =>
      status(openai.chat.completions.create({ model: "nobody", messages }), "model_not_found")],
    ["chat", "/v1/completions", "create", async (model) => {
      isSaid((await openai.completions.create({ model, prompt: "the quick", max_tokens: 12, temperature: 0 })).choices[0].text);
    }],
    ["chat", "/v1/responses", "create", async (model) => {
      isSaid((await openai.responses.create({ model, input: "Say something.", max_output_tokens: 12, temperature: 0 })).output_text);
    }],
    ["chat", "/v1/responses", "stream", async (model) => {
      let text = "";
      const stream = await openai.responses.create(
        { model, input: "Say something.", max_output_tokens: 12, temperature: 0, stream: true });
      for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
      isSaid(text);
    }],
    ["embedding", "/v1/embeddings", "base64", async (model) => {
      const { data } = await openai.embeddings.create({ model, input: ["the quick", "a token"] });
      assert.deepEqual(data.map((item) => item.embedding.length), [64, 64]);
      assert.ok(data[0].embedding.some(Boolean));
    }],
    ["embedding", "/v1/embeddings", "float", async (model) => {
      const { data } = await openai.embeddings.create({ model, input: "the quick", encoding_format: "float" });
      assert.equal(data[0].embedding.length, 64);
    }],
    ["chat", "/v1/models", "list", async (model) => {
      const found = [];
      for await (const one of openai.models.list()) found.push(one.id);
      assert.ok(found.includes(model));
      assert.equal((await openai.models.retrieve(model)).id, model);
    }],
    ["chat", "/v1/audio/transcriptions", "upload", async (model) =>
      status(openai.audio.transcriptions.create({ model, file: await toFile(sound, "a.wav") }),
        "not_supported_by_model")],
    ["transcription", "/v1/audio/transcriptions", "upload", async (model) => {
      const answer = await openai.audio.transcriptions.create({ model, file: await toFile(sound, "a.wav") });
      assert.equal(answer.text, "the quick brown fox");
    }],
    ["transcription", "/v1/audio/transcriptions", "large upload", async (model) => {
      const file = await toFile(new Uint8Array(6e6).fill(82), "a.wav");
      assert.equal((await openai.audio.transcriptions.create({ file, model })).text, "the quick brown fox");
    }],
    ["speech", "/v1/audio/speech", "whole", async (model) => {
      const answer = await openai.audio.speech.create({ model, input: "hello", voice: "alloy" });
      assert.equal((await answer.arrayBuffer()).byteLength, 16384);
    }],
  ],
  anthropic: [
    ["chat", "/v1/messages", "create", async (model) => {
      const answer = await anthropic.messages.create({ model, messages, max_tokens: 12, temperature: 0 });
      assert.equal(answer.model, model);
      isSaid(answer.content[0].text);
    }],
    ["chat", "/v1/messages", "stream", async (model) => {
      const final = await anthropic.messages.stream({ model, messages, max_tokens: 12, temperature: 0 }).finalMessage();
      assert.equal(final.usage.output_tokens, 12);
      isSaid(final.content[0].text);
    }],
    ["chat", "/v1/messages", "unknown model", () =>
      status(anthropic.messages.create({ model: "nobody", messages, max_tokens: 1 }))],
    ["chat", "/v1/messages/count_tokens", "count", async (model) => {
      assert.ok((await anthropic.messages.countTokens({ model, messages })).input_tokens > 3);
    }],
  ],
}[process.argv[2]];

const todo = Object.entries(models).flatMap(([engine, byKind]) =>
  checks.filter(([kind]) => kind in byKind).map(([kind, path, what, check]) => ({ engine, path, what, run: () => check(byKind[kind]) })));
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
say({ expected: todo.map(({ engine, path, what }) => [engine, path, what]) });
for (const { engine, path, what, run } of todo) {
  let outcome = "ok", detail = "";
  try {
    const found = await run();
    if (typeof found === "number") outcome = String(found);
  } catch (error) {
    [outcome, detail] = ["FAILS", String(error.stack).slice(-1500)];
  }
  say({ engine, path, what, outcome, detail });
}
