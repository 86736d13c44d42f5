"""A GGUF file as a source: unpacked once into a directory as Hugging Face saves one."""
