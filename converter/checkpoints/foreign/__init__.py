"""What is not a checkpoint that is read, recognized and named: files by their bytes, directories, tensors' names."""
