"""What `router doctor` looks at: the file, the machine, the engines, the models' files, and the router that runs."""
