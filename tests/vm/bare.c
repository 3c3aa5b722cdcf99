// Starts a statically linked Linux program on a processor without an operating system: an emulator
// takes minutes to start Linux, if its kernel likes the emulated processor at all, and a second to
// start this. `bare` beside this file builds and runs it.
//
// A multiboot loader brings the program as the first module and its arguments as that module's
// line. There is one thread, one privilege level, memory that is where it is, and of the system
// calls what a Rust test binary needs. Output goes to the first serial port and ends with a line
// `exit N`.

#include <elf.h>
#include <stdint.h>

typedef uint64_t u64;

enum { MIB = 1 << 20, PAGE = 4096 };
enum { PROGRAM_AT = 64 * MIB, HEAP_AT = 128 * MIB, STACK_LEN = 8 * MIB };

// From 32 bits, as the loader leaves the processor, to 64, with the vector units on.
__asm__(
    ".section .multiboot, \"a\"\n"
    ".align 4\n"
    ".long 0x1BADB002, 3, -(0x1BADB002 + 3)\n"
    ".text\n"
    ".code32\n"
    ".globl _start\n"
    "_start:\n"
    "cli\n"
    "movl $stack_end, %esp\n"
    "movl %ebx, %esi\n"
    // 4 GiB in pages of 2 MiB.
    "movl $pages2 + 3, pages4\n"
    "movl $pages1 + 3, %eax\n"
    "movl $pages2, %edi\n"
    "movl $4, %ecx\n"
    "1: movl %eax, (%edi)\n"
    "addl $0x1000, %eax\n"
    "addl $8, %edi\n"
    "loop 1b\n"
    "movl $0x83, %eax\n"
    "movl $pages1, %edi\n"
    "movl $2048, %ecx\n"
    "1: movl %eax, (%edi)\n"
    "addl $0x200000, %eax\n"
    "addl $8, %edi\n"
    "loop 1b\n"
    "movl $pages4, %eax\n"
    "movl %eax, %cr3\n"
    "movl %cr4, %eax\n"
    "orl $(1 << 5 | 1 << 9 | 1 << 10 | 1 << 18), %eax\n"  // PAE, SSE, its exceptions, XSAVE
    "movl %eax, %cr4\n"
    "movl $0xC0000080, %ecx\n"
    "rdmsr\n"
    "orl $(1 << 0 | 1 << 8), %eax\n"  // SYSCALL, long mode
    "wrmsr\n"
    "movl %cr0, %eax\n"
    "andl $~(1 << 2 | 1 << 3), %eax\n"  // floating point neither emulated nor lazy
    "orl $(1 << 31 | 1 << 5 | 1 << 1), %eax\n"
    "movl %eax, %cr0\n"
    "lgdt gdt_pointer\n"
    "ljmp $8, $1f\n"
    ".code64\n"
    "1: movl $16, %eax\n"
    "movl %eax, %ds\n"
    "movl %eax, %es\n"
    "movl %eax, %ss\n"
    "fninit\n"
    "movl %esi, %edi\n"
    "call run\n"
    // The program runs at the highest privilege too, so SYSRET would not do. It may use 128 bytes
    // below its stack pointer.
    ".globl system_call\n"
    "system_call:\n"
    "movq %rsp, program_stack\n"
    "movq $stack_end, %rsp\n"
    "pushq %rcx\n"
    "pushq %r11\n"
    "pushq %rdi\n"
    "pushq %rsi\n"
    "pushq %rdx\n"
    "pushq %r8\n"
    "pushq %r9\n"
    "pushq %r10\n"
    "movq %r10, %r8\n"
    "movq %rdx, %rcx\n"
    "movq %rsi, %rdx\n"
    "movq %rdi, %rsi\n"
    "movq %rax, %rdi\n"
    "call answer\n"
    "popq %r10\n"
    "popq %r9\n"
    "popq %r8\n"
    "popq %rdx\n"
    "popq %rsi\n"
    "popq %rdi\n"
    "popq %r11\n"
    "popq %rcx\n"
    "pushq %r11\n"
    "popfq\n"
    "movq program_stack, %rsp\n"
    "jmp *%rcx\n"
    ".globl enter\n"
    "enter: movq %rdi, %rsp\n"
    "xorl %edx, %edx\n"
    "jmp *%rsi\n"
    ".altmacro\n"
    ".macro stub n\n"
    ".align 16\n"
    ".if \\n != 8 && (\\n < 10 || \\n > 14) && \\n != 17 && \\n != 21\n"
    "pushq $0\n"  // where the processor gives no error code
    ".endif\n"
    "pushq $\\n\n"
    "jmp 1f\n"
    ".endm\n"
    ".align 16\n"
    ".globl stubs\n"
    "stubs:\n"
    ".set n, 0\n"
    ".rept 32\n"
    "stub %n\n"
    ".set n, n + 1\n"
    ".endr\n"
    "1: movq %rsp, %rdi\n"
    "movq %cr2, %rsi\n"
    "movq $stack_end, %rsp\n"
    "call trapped\n"
    ".data\n"
    ".align 8\n"
    "gdt: .quad 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF\n"
    "gdt_pointer: .word 23\n"
    ".long gdt\n"
    ".bss\n"
    ".align 4096\n"
    "pages4: .skip 4096\n"
    "pages2: .skip 4096\n"
    "pages1: .skip 4 * 4096\n"
    ".skip 65536\n"
    "stack_end: .skip 16\n"
    "program_stack: .skip 8\n"
    ".text\n");

extern char stubs[], system_call[];
void enter(u64 stack, u64 entry);

static void out8(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
static void out16(uint16_t port, uint16_t value) {
  __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}
static uint8_t in8(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static void write_msr(uint32_t msr, u64 value) {
  __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}
static u64 ticks(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (u64)high << 32 | low;
}
static void clear(u64 to, u64 n) {
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0) : "memory");
}
static void copy(u64 to, u64 from, u64 n) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
}

enum { SERIAL = 0x3F8 };
static void put(char c) {
  while (!(in8(SERIAL + 5) & 0x20)) continue;
  out8(SERIAL, (uint8_t)c);
}
static void print(const char *text) {
  while (*text) put(*text++);
}
static void print_number(u64 value, u64 base) {
  if (value >= base) print_number(value / base, base);
  put("0123456789abcdef"[value % base]);
}

static __attribute__((noreturn)) void stop(u64 code) {
  print("exit ");
  print_number(code, 10);
  put('\n');
  while (!(in8(SERIAL + 5) & 0x40)) continue;
  out16(0xB004, 0x2000);  // power off, by the chipset that Bochs has
  for (;;) __asm__ volatile("cli; hlt");
}

void trapped(const u64 *frame, u64 address) {
  const char *names[] = {"\nexception ", ", code 0x", " at 0x", ", address 0x"};
  u64 values[] = {frame[0], frame[1], frame[2] - PROGRAM_AT, address};
  for (int i = 0; i < 4; i++) print(names[i]), print_number(values[i], i ? 16 : 10);
  put('\n');
  stop(255);
}

static u64 program_break, heap = HEAP_AT, heap_end;

// From the clock, which in an emulator is much the same in each run.
static void fill(uint8_t *to, u64 n) {
  static u64 state;
  state ^= ticks();
  while (n--) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    *to++ = (uint8_t)(state >> 56);
  }
}
static int same(const char *one, const char *other) {
  while (*one && *one == *other) one++, other++;
  return *one == *other;
}

enum { NO_ENTRY = -2, TRY_AGAIN = -11, NO_MEMORY = -12, NO_TERMINAL = -25, NO_SUCH_CALL = -38 };
enum { RANDOM_FILE = 100 };

int64_t answer(u64 call, u64 a, u64 b, u64 c, u64 d) {
  switch (call) {
    case 0:  // read
      if (a != RANDOM_FILE) return 0;
      fill((uint8_t *)b, c);
      return (int64_t)c;
    case 1:  // write
      for (u64 i = 0; i < c; i++) put(((const char *)b)[i]);
      return (int64_t)c;
    case 20: {  // writev
      const u64 *parts = (const u64 *)b;
      int64_t n = 0;
      for (u64 i = 0; i < c; i++) n += answer(1, a, parts[2 * i], parts[2 * i + 1], 0);
      return n;
    }
    case 2: case 257: {  // open, openat
      const char *path = (const char *)(call == 2 ? a : b);
      return same(path, "/dev/random") || same(path, "/dev/urandom") ? RANDOM_FILE : NO_ENTRY;
    }
    case 4: case 5: case 6: case 21: case 79: case 89: case 262: case 267: case 332:
      return NO_ENTRY;  // other calls on files
    case 16: return NO_TERMINAL;
    case 7: case 271:  // poll, ppoll: everything can be read
      for (u64 i = 0; i < b; i++) ((uint16_t *)a)[4 * i + 3] = ((uint16_t *)a)[4 * i + 2] & 1;
      return (int64_t)b;
    case 9: {  // mmap
      u64 at = heap, n = (b + PAGE - 1) & ~(u64)(PAGE - 1);
      if (!(d & 0x20) || n > heap_end - heap) return NO_MEMORY;
      heap += n;
      clear(at, n);
      return (int64_t)at;
    }
    case 25: return NO_MEMORY;  // mremap
    case 12:                    // brk
      if (a >= program_break && a <= HEAP_AT) {
        clear(program_break, a - program_break);
        program_break = a;
      }
      return (int64_t)program_break;
    case 56: case 435: return TRY_AGAIN;  // clone: libtest then runs the test in its own thread
    case 39: case 186: case 218: return 1;
    case 158:  // arch_prctl: thread-local storage
      if (a != 0x1002) return NO_SUCH_CALL;
      write_msr(0xC0000100, b);
      return 0;
    case 204:  // sched_getaffinity
      clear(c, 8);
      *(char *)c = 1;
      return 8;
    case 228:  // clock_gettime
      ((u64 *)b)[0] = ticks() / 50000000;
      ((u64 *)b)[1] = ticks() % 50000000 * 20;
      return 0;
    case 302:  // prlimit64
      if (d) ((u64 *)d)[0] = ((u64 *)d)[1] = STACK_LEN;
      return 0;
    case 318:  // getrandom
      fill((uint8_t *)a, b);
      return (int64_t)b;
    case 334: return NO_SUCH_CALL;  // rseq
    case 60: case 231: stop(a);
    // Of no consequence here: close, mprotect, munmap, signals, sched_yield, madvise, futex,
    // set_robust_list.
    case 3: case 10: case 11: case 13: case 14: case 24: case 28: case 131: case 202: case 273:
      return 0;
    default:
      print("[system call ");
      print_number(call, 10);
      print("]\n");
      return NO_SUCH_CALL;
  }
}

void run(const uint32_t *loader) {
  // 115200 baud, 8 bits.
  out8(SERIAL + 3, 0x80), out8(SERIAL, 1), out8(SERIAL + 1, 0), out8(SERIAL + 3, 3);
  out8(SERIAL + 2, 7);

  static struct { uint16_t low, selector, flags, middle; uint32_t high, zero; } traps[32];
  for (u64 i = 0; i < 32; i++) {
    u64 at = (u64)stubs + i * 16;
    traps[i].low = (uint16_t)at, traps[i].middle = (uint16_t)(at >> 16), traps[i].selector = 8;
    traps[i].flags = 0x8E00;
  }
  struct __attribute__((packed)) { uint16_t limit; u64 base; } pointer;
  pointer.limit = sizeof traps - 1, pointer.base = (u64)traps;
  __asm__ volatile("lidt %0" ::"m"(pointer));
  write_msr(0xC0000081, (u64)8 << 32);
  write_msr(0xC0000082, (u64)system_call);
  write_msr(0xC0000084, 0x700);
  // x87, SSE, AVX, masks and 512 bits, as far as the processor has them.
  uint32_t states = 0xD, b, c = 0, d;
  __asm__("cpuid" : "+a"(states), "=b"(b), "+c"(c), "=d"(d));
  __asm__ volatile("xsetbv" ::"a"(states & 0xE7), "c"(0), "d"(0));

  const uint32_t *module = (const uint32_t *)(u64)loader[6];
  const Elf64_Ehdr *file = (const Elf64_Ehdr *)(u64)module[0];
  u64 base = file->e_type == ET_DYN ? PROGRAM_AT : 0;
  const Elf64_Phdr *part = (const Elf64_Phdr *)((u64)file + file->e_phoff);
  for (int i = 0; i < file->e_phnum; i++, part++) {
    if (part->p_type != PT_LOAD) continue;
    u64 to = base + part->p_vaddr;
    copy(to, (u64)file + part->p_offset, part->p_filesz);
    clear(to + part->p_filesz, part->p_memsz - part->p_filesz);
    program_break = (to + part->p_memsz + PAGE - 1) & ~(u64)(PAGE - 1);
  }

  u64 top = (MIB + (u64)loader[2] * 1024) & ~(u64)(PAGE - 1);
  heap_end = top - STACK_LEN;
  static u64 seed[2];
  fill((uint8_t *)seed, sizeof seed);
  u64 *stack = (u64 *)(top - PAGE), *at = stack + 1;
  for (char *line = (char *)(u64)module[2]; *line;) {
    *at++ = (u64)line;
    while (*line && *line != ' ') line++;
    while (*line == ' ') *line++ = 0;
  }
  *stack = (u64)(at - stack - 1);
  *at++ = 0;
  *at++ = (u64) "PROPTEST_DISABLE_FAILURE_PERSISTENCE=1";
  *at++ = 0;
  u64 facts[] = {AT_PHDR,   base + file->e_phoff, AT_PHENT, file->e_phentsize,
                 AT_PHNUM,  file->e_phnum,        AT_ENTRY, base + file->e_entry,
                 AT_PAGESZ, PAGE,                 AT_RANDOM, (u64)seed,
                 AT_SECURE, 0,                    AT_NULL,  0};
  for (u64 i = 0; i < sizeof facts / sizeof *facts; i++) *at++ = facts[i];
  enter((u64)stack, base + file->e_entry);
}
