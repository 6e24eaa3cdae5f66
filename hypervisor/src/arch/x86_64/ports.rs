//! The I/O ports: COM1, the keyboard controller's reset, ACPI's sleep and reset registers.

use super::layout::{
    ACPI_RESET, ACPI_RESET_VALUE, ACPI_S5_SLEEP_TYPE, ACPI_SLEEP_CONTROL, ACPI_SLEEP_ENABLE,
    ACPI_SLEEP_STATUS, ACPI_SLEEP_TYPE_SHIFT, COM1, COM1_PORTS, I8042_COMMAND, I8042_DATA, I8042_RESET,
};
use crate::exit_reason::ExitReason;

/// What a port that is not there reads as.
const ABSENT: u8 = 0xFF;
/// One past COM1's last port.
const COM1_END: u16 = COM1 + COM1_PORTS;

/// The registers behind COM1's ports, numbered from zero.
pub trait SerialPort {
    /// The guest reads a register.
    fn read(&self, register: u8) -> u8;
    /// The guest writes a register.
    fn write(&self, register: u8, value: u8);
}

/// The guest reads `data.len()` bytes from `port`, a byte at a time.
pub fn read(serial: &impl SerialPort, port: u16, data: &mut [u8]) {
    for byte in data {
        *byte = match port {
            COM1..COM1_END => serial.read(register(port)),
            // An empty output buffer and an input buffer that is ready for a command.
            I8042_DATA | I8042_COMMAND | ACPI_SLEEP_STATUS | ACPI_SLEEP_CONTROL | ACPI_RESET => 0,
            _ => ABSENT,
        };
    }
}

/// The guest writes `data` to `port`, a byte at a time. Returns the reason if that ends the machine.
#[must_use]
pub fn write(serial: &impl SerialPort, port: u16, data: &[u8]) -> Option<ExitReason> {
    data.iter().find_map(|&value| match (port, value) {
        (COM1..COM1_END, _) => {
            serial.write(register(port), value);
            None
        }
        (I8042_COMMAND, I8042_RESET) => Some(ExitReason::GuestReset),
        (ACPI_RESET, ACPI_RESET_VALUE) => Some(ExitReason::AcpiReset),
        (ACPI_SLEEP_CONTROL, _) if turns_off(value) => Some(ExitReason::AcpiPowerOff),
        _ => None,
    })
}

/// Whether a value for the sleep control register enters the soft-off state.
const fn turns_off(value: u8) -> bool {
    let sleep_type = value >> ACPI_SLEEP_TYPE_SHIFT & 7;
    value & ACPI_SLEEP_ENABLE != 0 && sleep_type == ACPI_S5_SLEEP_TYPE
}

/// COM1's register behind a port of its range.
fn register(port: u16) -> u8 {
    u8::try_from(port.saturating_sub(COM1)).unwrap_or_default()
}
