// Exercises of ring 3 on vector registers, one instruction of each set.
#include "vmm/probe/guest/user_macros.h"

// XMM0 and XMM1 hold 5 and 3.
#define FIVE_AND_THREE \
  "mov $5, %%eax; movq %%rax, %%xmm0; mov $3, %%ecx; movq %%rcx, %%xmm1; xor %%eax, %%eax;"
#define RESULT "movq %%xmm0, %%rax"

namespace probe {

USER_EXERCISE(mmx, "mov $5, %%ecx; movd %%ecx, %%mm0; paddd %%mm0, %%mm0; movd %%mm0, %%eax; emms",
              a == 10)
USER_RUNS(fxsr, "fxsave (%%rdi); fxrstor (%%rdi)")
USER_EXERCISE(sse,
              "movl $0x40000000, (%%rdi); movss (%%rdi), %%xmm0; addss %%xmm0, %%xmm0;"
              "movss %%xmm0, (%%rdi); mov (%%rdi), %%eax",
              a == 0x40800000)  // 2.0 + 2.0
USER_EXERCISE(sse2, FIVE_AND_THREE "paddq %%xmm1, %%xmm0;" RESULT, a == 8)
USER_EXERCISE(pni, FIVE_AND_THREE "movddup %%xmm1, %%xmm0;" RESULT, a == 3)
USER_EXERCISE(ssse3, "mov $-5, %%rcx; movq %%rcx, %%xmm1; pabsb %%xmm1, %%xmm0;" RESULT,
              (a & 0xff) == 5)
USER_EXERCISE(sse4_1, FIVE_AND_THREE "pmaxud %%xmm1, %%xmm0;" RESULT, a == 5)
USER_EXERCISE(sse4_2, FIVE_AND_THREE "pcmpgtq %%xmm1, %%xmm0;" RESULT, a == ~uint64_t{0})
USER_EXERCISE(pclmulqdq, FIVE_AND_THREE "pclmulqdq $0, %%xmm1, %%xmm0;" RESULT, a == 15)
// A round key of zeroes in, 63h in every byte after SubBytes.
USER_EXERCISE(aes, "pxor %%xmm0, %%xmm0; pxor %%xmm1, %%xmm1; aesenclast %%xmm1, %%xmm0;" RESULT,
              a == 0x6363636363636363)
USER_RUNS(sha_ni, FIVE_AND_THREE "sha1msg1 %%xmm1, %%xmm0")
// A product with 1 in each byte.
USER_EXERCISE(gfni,
              "mov $5, %%ecx; movq %%rcx, %%xmm0; mov $1, %%ecx; movq %%rcx, %%xmm1;"
              "gf2p8mulb %%xmm1, %%xmm0;" RESULT,
              (a & 0xff) == 5)
USER_EXERCISE(sse4a, "mov $0x1234, %%ecx; movq %%rcx, %%xmm0; extrq $4, $8, %%xmm0;" RESULT,
              a == 0x23)
// MXCSR.MM is reserved without it.
USER_RUNS(misalignsse,
          "stmxcsr (%%rdi); orl $0x20000, (%%rdi); ldmxcsr (%%rdi); movups 1(%%rdi), %%xmm1;"
          "paddq 1(%%rdi), %%xmm0; andl $~0x20000, (%%rdi); ldmxcsr (%%rdi)")
USER_EXERCISE(mmxext, "mov $0x80, %%ecx; movd %%ecx, %%mm0; pmovmskb %%mm0, %%eax; emms", a == 1)
USER_RUNS(threednow, "pfadd %%mm1, %%mm0; femms")
USER_EXERCISE(threednowext,
              "mov $5, %%ecx; movd %%ecx, %%mm1; pswapd %%mm1, %%mm0;"
              "psrlq $32, %%mm0; movd %%mm0, %%eax; emms",
              a == 5)

USER_EXERCISE(avx,
              FIVE_AND_THREE "vpaddq %%xmm1, %%xmm0, %%xmm0; vaddps %%ymm1, %%ymm2, %%ymm3;" RESULT,
              a == 8)
USER_RUNS(f16c, "vcvtph2ps %%xmm1, %%ymm0")
USER_RUNS(fma, "vfmadd132ps %%ymm1, %%ymm2, %%ymm3")
USER_EXERCISE(avx2, FIVE_AND_THREE "vpaddq %%ymm1, %%ymm0, %%ymm0;" RESULT, a == 8)
USER_EXERCISE(vaes,
              "vpxor %%ymm0, %%ymm0, %%ymm0; vpxor %%ymm1, %%ymm1, %%ymm1;"
              "vaesenclast %%ymm1, %%ymm0, %%ymm0;" RESULT,
              a == 0x6363636363636363)
USER_EXERCISE(vpclmulqdq, FIVE_AND_THREE "vpclmulqdq $0, %%ymm1, %%ymm0, %%ymm0;" RESULT, a == 15)
USER_RUNS(avx_vnni, "%{vex%} vpdpbusd %%xmm1, %%xmm2, %%xmm3")
USER_RUNS(avx_ifma, "%{vex%} vpmadd52luq %%xmm1, %%xmm2, %%xmm3")
USER_RUNS(avx_vnni_int8, "vpdpbssd %%xmm1, %%xmm2, %%xmm3")
USER_RUNS(avx_vnni_int16, ".byte 0xc4, 0xe2, 0x70, 0xd2, 0xc1")  // vpdpwuud
USER_RUNS(avx_ne_convert, "vcvtneeph2ps (%%rdi), %%xmm1")
USER_RUNS(sha512, ".byte 0xc4, 0xe2, 0x7f, 0xcc, 0xc8")  // vsha512msg1 %xmm0, %ymm1
USER_RUNS(sm3, ".byte 0xc4, 0xe2, 0x70, 0xda, 0xc2")     // vsm3msg1
USER_RUNS(sm4, ".byte 0xc4, 0xe2, 0x72, 0xda, 0xc2")     // vsm4key4
USER_RUNS(xop, "vphaddbw %%xmm1, %%xmm2")
USER_RUNS(fma4, "vfmaddps %%xmm1, %%xmm2, %%xmm3, %%xmm4")

USER_EXERCISE(avx512f, FIVE_AND_THREE "vpaddq %%zmm1, %%zmm0, %%zmm0;" RESULT, a == 8)
USER_EXERCISE(avx512dq, FIVE_AND_THREE "vpmullq %%zmm1, %%zmm0, %%zmm0;" RESULT, a == 15)
USER_RUNS(avx512ifma, "vpmadd52luq %%zmm1, %%zmm2, %%zmm3")
USER_RUNS(avx512pf,
          "kxnorw %%k1, %%k1, %%k1; vpxord %%zmm0, %%zmm0, %%zmm0;"
          "vgatherpf0dps (%%rdi, %%zmm0, 4) %{%%k1%}")
USER_RUNS(avx512er, "vexp2ps %%zmm1, %%zmm2")
USER_EXERCISE(avx512cd, "mov $1, %%ecx; vmovq %%rcx, %%xmm1; vplzcntq %%zmm1, %%zmm0;" RESULT,
              a == 63)
USER_RUNS(avx512bw, "vpaddb %%zmm1, %%zmm2, %%zmm3")
USER_RUNS(avx512vl, "vpaddq %%ymm17, %%ymm18, %%ymm19")
USER_RUNS(avx512vbmi, "vpermb %%zmm1, %%zmm2, %%zmm3")
USER_RUNS(avx512vbmi2, "vpshldd $1, %%zmm1, %%zmm2, %%zmm3")
USER_RUNS(avx512vnni, "vpdpbusd %%zmm1, %%zmm2, %%zmm3")
USER_EXERCISE(avx512bitalg, "mov $7, %%ecx; vmovq %%rcx, %%xmm1; vpopcntb %%zmm1, %%zmm0;" RESULT,
              a == 3)
USER_EXERCISE(avx512_vpopcntdq,
              "mov $7, %%ecx; vmovq %%rcx, %%xmm1; vpopcntq %%zmm1, %%zmm0;" RESULT, a == 3)
USER_RUNS(avx512_vp2intersect, "vp2intersectd %%zmm1, %%zmm2, %%k2")
USER_RUNS(avx512_bf16, "vdpbf16ps %%zmm1, %%zmm2, %%zmm3")
USER_RUNS(avx512_fp16, "vaddph %%zmm1, %%zmm2, %%zmm3")
USER_RUNS(amx_tile, "tilerelease")

}  // namespace probe
