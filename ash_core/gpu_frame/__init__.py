"""The whole frame on the GPU, captured once: networks, skinning and splatting."""
