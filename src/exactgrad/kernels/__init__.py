"""How a kernel's one source is compiled, cached and spread over threads."""
