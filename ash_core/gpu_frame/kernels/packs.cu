// Packs: eight neighbouring channels of a half map [height, width, channels], 16 bytes, one read of a thread.

struct Pack {
    float v[8];
};

__device__ __forceinline__ Pack unpack(uint4 raw) {
    float2 a = half2_to_float2(raw.x), b = half2_to_float2(raw.y);
    float2 c = half2_to_float2(raw.z), d = half2_to_float2(raw.w);
    return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}

__device__ __forceinline__ uint4 packed(const Pack& p) {
    return make_uint4(
        float2_to_half2(p.v[0], p.v[1]), float2_to_half2(p.v[2], p.v[3]),
        float2_to_half2(p.v[4], p.v[5]), float2_to_half2(p.v[6], p.v[7]));
}

__device__ __forceinline__ uint4 load_raw(const unsigned short* source) {
    return *reinterpret_cast<const uint4*>(source);
}

__device__ __forceinline__ void store_raw(unsigned short* target, uint4 raw) {
    *reinterpret_cast<uint4*>(target) = raw;
}

__device__ __forceinline__ Pack load_floats(const float* source) {
    float4 a = reinterpret_cast<const float4*>(source)[0], b = reinterpret_cast<const float4*>(source)[1];
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
