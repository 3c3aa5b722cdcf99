// Hides instruction sets from a program: preloaded before its libraries look for them.
//
// BENCH_HIDE=amx   the permission for AMX's tiles is refused, by a system call filter.
// BENCH_HIDE=avx2  besides, CPUID names nothing beyond AVX2 and FMA: the instruction is made to
//                  fault, and answered here. Needs a CPU or hypervisor that can (Linux:
//                  ARCH_SET_CPUID). The C library has looked before; its copying stays as it was.
//
// A program that cannot be restrained ends with status 71 and a line on standard error.

#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { SET_CPUID = 0x1012, REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };

static void fail(const char *what) {
    fprintf(stderr, "hide: %s: %s\n", what, strerror(errno));
    _exit(71);
}

static void refuse_amx(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, REQ_XCOMP_PERM, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("cannot give up new privileges");
    // Without the flag older kernels slow a filtered program down (spec_store_bypass_disable).
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program))
        fail("cannot filter system calls");
    errno = 0;
    if (syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) != -1 || errno != EPERM)
        fail("the filter does not refuse AMX");
}

static void set_cpuid(unsigned long allowed) {
    if (syscall(SYS_arch_prctl, SET_CPUID, allowed)) fail("CPUID cannot be made to fault here");
}

// Answers a CPUID that faulted; any other fault takes its ordinary course when it is met again.
static void answer(int signal_number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)registers[REG_RIP];
    // An instruction that faulted by itself was fetched, so it can be read.
    if (info->si_code != SI_KERNEL || code[0] != 0x0f || code[1] != 0xa2) {
        signal(signal_number, SIG_DFL);
        return;
    }
    uint32_t leaf = registers[REG_RAX], part = registers[REG_RCX], a, b, c, d;
    set_cpuid(1);
    __cpuid_count(leaf, part, a, b, c, d);
    set_cpuid(0);
    if (leaf == 7 && part == 0) {
        // AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW,
        // 4FMAPS, VP2INTERSECT, AMX-BF16, FP16, AMX-TILE, AMX-INT8.
        b &= ~(1u << 16 | 1u << 17 | 1u << 21 | 7u << 26 | 3u << 30);
        c &= ~(1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14);
        d &= ~(1u << 2 | 1u << 3 | 1u << 8 | 15u << 22);
    }
    if (leaf == 7 && part == 1) {
        // AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA; AVX-VNNI-INT8, AVX-NE-CONVERT,
        // AMX-COMPLEX, AVX-VNNI-INT16, AVX10.
        a &= ~(1u << 4 | 1u << 5 | 1u << 21 | 1u << 23);
        d &= ~(1u << 4 | 1u << 5 | 1u << 8 | 1u << 10 | 1u << 19);
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

static void limit_cpuid(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGSEGV, &action, NULL)) fail("cannot handle the fault");
    set_cpuid(0);
    unsigned a = 0, b = 0, c = 0, d = 0;
    errno = 0;
    __cpuid_count(7, 0, a, b, c, d);
    if (b >> 16 & 1 || d >> 24 & 1) fail("AVX-512 or AMX is still visible");
    __cpuid_count(7, 1, a, b, c, d);
    if (a >> 4 & 1) fail("AVX-VNNI is still visible");
}

__attribute__((constructor)) static void hide(void) {
    const char *what = getenv("BENCH_HIDE");
    if (!what || !*what) return;
    if (strcmp(what, "amx") && strcmp(what, "avx2")) {
        errno = EINVAL;
        fail("BENCH_HIDE must be amx or avx2");
    }
    refuse_amx();
    if (!strcmp(what, "avx2")) limit_cpuid();
}
