//! Machine code for guests of a few instructions, assembled by hand: 64-bit mode, flat memory, no stack.
//!
//! Encodings: Intel SDM volume 2.

/// Instructions, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Code(Vec<u8>);

impl Code {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends raw bytes.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn number(self, opcode: &[u8], number: u32) -> Self {
        self.raw(opcode).raw(&number.to_le_bytes())
    }

    /// `mov eax, number`
    pub fn eax(self, number: u32) -> Self {
        self.number(&[0xB8], number)
    }

    /// `mov ecx, number`
    pub fn ecx(self, number: u32) -> Self {
        self.number(&[0xB9], number)
    }

    /// `mov edx, number`
    pub fn edx(self, number: u32) -> Self {
        self.number(&[0xBA], number)
    }

    /// `mov rdi, address`
    pub fn rdi(self, address: u64) -> Self {
        self.raw(&[0x48, 0xBF]).raw(&address.to_le_bytes())
    }

    /// Writes one byte to a port.
    pub fn out(self, port: u16, value: u8) -> Self {
        self.edx(port.into()).raw(&[0xB0, value, 0xEE])
    }

    /// `in al, dx` from a port.
    pub fn input(self, port: u16) -> Self {
        self.edx(port.into()).raw(&[0xEC])
    }

    /// Writes AL to the serial port.
    pub fn print_al(self) -> Self {
        self.edx(0x3F8).raw(&[0xEE])
    }

    /// Writes a text to the serial port.
    pub fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |code, byte| code.out(0x3F8, byte))
    }

    /// Writes the four bytes of EAX to the serial port, lowest first.
    pub fn print_eax(self) -> Self {
        (0..4).fold(self, |code, _| code.print_al().raw(&[0xC1, 0xC8, 8]))
    }

    /// Writes the four bytes of EAX, EBX, ECX and EDX, after CPUID.
    pub fn print_cpuid(self) -> Self {
        // EDX is needed for the port number: keep its value in ESI.
        self.raw(&[0x89, 0xD6])
            .print_eax()
            .raw(&[0x89, 0xD8])
            .print_eax()
            .raw(&[0x89, 0xC8])
            .print_eax()
            .raw(&[0x89, 0xF0])
            .print_eax()
    }

    /// `cpuid` with this leaf and subleaf.
    pub fn cpuid(self, leaf: u32, subleaf: u32) -> Self {
        self.eax(leaf).ecx(subleaf).raw(&[0x0F, 0xA2])
    }

    /// `mov eax, [address]`: 32 bits.
    pub fn load(self, address: u64) -> Self {
        self.rdi(address).raw(&[0x8B, 0x07])
    }

    /// `mov [address], number`: 32 bits.
    pub fn store(self, address: u64, number: u32) -> Self {
        self.rdi(address).number(&[0xC7, 0x07], number)
    }

    /// `rdmsr`
    pub fn read_msr(self, number: u32) -> Self {
        self.ecx(number).raw(&[0x0F, 0x32])
    }

    /// `wrmsr` of EDX:EAX, both zero.
    pub fn write_msr_zero(self, number: u32) -> Self {
        self.ecx(number).raw(&[0x31, 0xC0, 0x31, 0xD2, 0x0F, 0x30])
    }

    /// Loops until the 32-bit word at the address has this value.
    pub fn wait_for(self, address: u64, value: u32) -> Self {
        // again: mov eax, [rdi]; cmp eax, value; jne again
        self.rdi(address).raw(&[0x8B, 0x07]).number(&[0x3D], value).raw(&[0x75, 0xF7])
    }

    /// Resets the machine through the keyboard controller.
    pub fn reset(self) -> Self {
        self.out(0x64, 0xFE)
    }

    /// `cli; hlt`: stays.
    pub fn halt(self) -> Self {
        self.raw(&[0xFA, 0xF4, 0xEB, 0xFD])
    }
}
