"""CUDA kernels without nvcc: compiled by NVRTC at first use, kept, launched on torch's streams."""
