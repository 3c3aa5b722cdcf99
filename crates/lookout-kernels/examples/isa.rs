//! Prints the instruction sets of this machine, the fastest first. `tests/vm/kernels` asks it
//! whether an emulated processor has those that it is meant to have.

#![expect(clippy::print_stdout, reason = "its whole purpose")]

use lookout_kernels::Isa;

fn main() {
    for isa in Isa::available() {
        println!("{isa}");
    }
}
