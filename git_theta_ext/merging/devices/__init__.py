"""Convert stored bytes to numbers and back, on CPUs and CUDA devices."""
