"""Processors: their names, how the kernel recognises their programs, and the smallest program of each.

Sources: elf(5) and elf.h (classes, machines, flags); Documentation/admin-guide/binfmt-misc.rst; the tables of system
calls of Linux (arch/*/kernel/syscalls); QEMU's scripts/qemu-binfmt-conf.sh for its names of processors.
"""

from __future__ import annotations

import struct

from pybuild.store.formats.platform import Platform
from pybuild.values import frozen

_HEADER = {32: (52, 32), 64: (64, 56)}  # bits -> bytes of the ELF header and of a program header
_BASE, _ALIGN = 0x400000, 0x10000  # 64 KiB is the largest page
_DELIMITERS = ":|;,!" + "".join(map(chr, range(1, 32)))  # of a line for binfmt_misc
_RECOGNISED = 20  # bytes of the ELF header up to e_machine
# docs/dev/decisions/0012-emulators-of-the-steps.md says why these.
FLAGS = "POCF"


@frozen
class Processor:
    """`qemu` is QEMU's name, `machine` is e_machine. `flags` (e_flags) and `exits` (instructions that call exit(0)) are
    those of the trial program; without `exits` there is none.
    """

    qemu: str
    bits: int
    machine: int
    exits: str = ""  # hexadecimal, in the order of memory
    flags: int = 0
    big: bool = False  # big endian

    def _pack(self, layout: str, *numbers: int) -> bytes:
        return struct.pack((">" if self.big else "<") + layout, *numbers)

    @property
    def _start(self) -> bytes:
        """The first 16 bytes of its programs."""
        return b"\x7fELF" + bytes((self.bits // 32, 2 if self.big else 1, 1)) + bytes(9)

    def recognises(self, magic: bytes) -> bool:
        """Whether a handler of the kernel with this magic, at the start of the file, is for this processor's programs."""
        return magic[:6] == self._start[:6] and magic[18:20] == self._pack("H", self.machine)

    def rule(self, architecture: str, interpreter: str) -> str:
        """The line for the file `register` of binfmt_misc. Programs of any system's ABI and of both types, fixed and
        position-independent (2 and 3), are recognised, as by the kernel's own loader.
        """
        magic = self._start + self._pack("HH", 2, self.machine)
        mask = b"\xff" * 7 + bytes(9) + self._pack("HH", 0xFFFE, 0xFFFF)
        # A path with all of them: the kernel refuses the line.
        delimiter = next((character for character in _DELIMITERS if character not in interpreter), ":")
        escaped = ["".join(f"\\x{byte:02x}" for byte in text) for text in (magic, mask)]
        return delimiter.join(("", f"pybuild-{architecture}", "M", "", *escaped, interpreter, FLAGS))

    @property
    def trial(self) -> bytes:
        """A program that only exits with status 0; empty if none is known."""
        code = bytes.fromhex(self.exits)
        if not code:
            return b""
        header, segment = _HEADER[self.bits]
        size = header + segment + len(code)
        word = "Q" if self.bits == 64 else "I"
        # e_type, e_machine, e_version; e_entry, e_phoff, e_shoff; e_flags, e_ehsize, e_phentsize, e_phnum, e_sh*
        head = self._pack("HHI", 2, self.machine, 1) + self._pack(word * 3, _BASE + header + segment, header, 0)
        head += self._pack("IHHHHHH", self.flags, header, segment, 1, 0, 0, 0)
        if self.bits == 64:  # p_flags (read, execute) is the second field, in 32 bits the second but last
            load = self._pack("IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, _ALIGN)
        else:
            load = self._pack("IIIIIIII", 1, 0, _BASE, _BASE, size, size, 5, _ALIGN)
        return self._start + head + load + code


PROCESSORS = {  # by Go's name
    "386": Processor("i386", 32, 3, "31db b801000000 cd80"),
    "amd64": Processor("x86_64", 64, 62, "31ff b83c000000 0f05"),
    "arm": Processor("arm", 32, 40, "0000a0e3 0170a0e3 000000ef", 0x05000400),
    "arm64": Processor("aarch64", 64, 183, "000080d2 a80b80d2 010000d4"),
    "loong64": Processor("loongarch64", 64, 258, "04008003 0b748103 00002b00", 0x43),
    "mips": Processor("mips", 32, 8, "24040000 24020fa1 0000000c", 0x70001007, big=True),
    "mips64": Processor("mips64", 64, 8, "64040000 640213c2 0000000c", 0x80000007, big=True),
    "mips64le": Processor("mips64el", 64, 8, "00000464 c2130264 0c000000", 0x80000007),
    "mipsle": Processor("mipsel", 32, 8, "00000424 a10f0224 0c000000", 0x70001007),
    "ppc64": Processor("ppc64", 64, 21, "38600000 38000001 44000002", 2, big=True),
    "ppc64le": Processor("ppc64le", 64, 21, "00006038 01000038 02000044", 2),
    "riscv64": Processor("riscv64", 64, 243, "13050000 9308d005 73000000", 5),
    "s390x": Processor("s390x", 64, 22, "a7290000 0a01", big=True),
}  # fmt: skip


def processor_name(text: str) -> str | None:
    """Go's name of a processor, also from the kernel's or Debian's name of it; None if it is unknown."""
    name = Platform("linux", text.lower()).normal().architecture
    return name if name in PROCESSORS else None
