//! The mmio transport against any sequence of register accesses, beside a model that is simple enough to be read as a
//! statement of the rules. Driven by bytes, so that a fuzzer, a property test and a corpus use the same body.

use vm_memory::{Bytes, GuestAddress};

use super::{Driver, Probe, memory};
use crate::mmio::registers as register;

/// Length of each of the two regions of guest memory.
const REGION: usize = 0x1_0000;

/// Values that mean something in some register.
const VALUES: [u32; 24] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    11,
    15,
    16,
    64,
    79,
    128,
    143,
    0x20,
    0x1000,
    0x1040,
    0x2000,
    0x3001,
    0xfff0,
    0x3000_0000,
    0x3000_0020,
    0x8000_0000,
    u32::MAX,
];

/// The rules, as far as registers show them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: [u32; 2],
    features_beyond: bool,
    queue_sel: u32,
    queues: [ModelQueue; 2],
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ModelQueue {
    size: u32,
    descriptors: u64,
    available: u64,
    used: u64,
    ready: bool,
}

impl ModelQueue {
    /// In one of the two regions, aligned, and of a legal size.
    fn valid(&self, max: u16) -> bool {
        let size = u64::from(self.size);
        let region = u64::try_from(REGION).unwrap_or(0);
        let inside = |at: u64, bytes: u64| {
            [0, 16 * region]
                .iter()
                .any(|start| at >= *start && at.checked_add(bytes).is_some_and(|end| end <= start + region))
        };
        self.size.is_power_of_two()
            && self.size <= u32::from(max)
            && self.descriptors.is_multiple_of(16)
            && self.available.is_multiple_of(2)
            && self.available != 0
            && self.used.is_multiple_of(4)
            && inside(self.descriptors, 16 * size)
            && inside(self.available, 6 + 2 * size)
            && inside(self.used, 6 + 8 * size)
    }
}

impl Model {
    fn write(&mut self, offset: u64, value: u32) {
        match offset {
            register::STATUS => self.write_status(value),
            register::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            register::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            register::QUEUE_SEL => self.queue_sel = value,
            register::DRIVER_FEATURES if self.status == 3 => match self.driver_features_sel {
                0 => self.driver_features[0] = value,
                1 => self.driver_features[1] = value,
                _ => self.features_beyond |= value != 0,
            },
            _ if self.status == 11 && self.queue_sel < 2 => self.write_queue(offset, value),
            register::QUEUE_READY if self.status == 15 && self.queue_sel < 2 && value == 0 => {
                *self = Self::default();
            }
            _ => {}
        }
    }

    fn write_queue(&mut self, offset: u64, value: u32) {
        let index = if self.queue_sel == 0 { 0 } else { 1 };
        let queue = &mut self.queues[index];
        if offset == register::QUEUE_READY {
            match value {
                0 => queue.ready = false,
                1 => queue.ready |= queue.valid(Probe::QUEUES[index]),
                _ => {}
            }
            return;
        }
        if queue.ready {
            return;
        }
        let value64 = u64::from(value);
        let low = |address: u64| address >> 32 << 32 | value64;
        let high = |address: u64| address & 0xffff_ffff | value64 << 32;
        match offset {
            register::QUEUE_NUM => queue.size = value,
            register::QUEUE_DESC_LOW => queue.descriptors = low(queue.descriptors),
            register::QUEUE_DESC_HIGH => queue.descriptors = high(queue.descriptors),
            register::QUEUE_DRIVER_LOW => queue.available = low(queue.available),
            register::QUEUE_DRIVER_HIGH => queue.available = high(queue.available),
            register::QUEUE_DEVICE_LOW => queue.used = low(queue.used),
            register::QUEUE_DEVICE_HIGH => queue.used = high(queue.used),
            _ => {}
        }
    }

    fn write_status(&mut self, value: u32) {
        let bits = value & !64;
        match (self.status, bits) {
            (_, 0) if value == 0 => *self = Self::default(),
            (status, bits)
                if status & 128 == 0 && bits == (status & !64) | 128 && value & 64 & !status == 0 =>
            {
                self.status |= 128;
            }
            (0, 1) if value == 1 => self.status = 1,
            (1, 3) if value == 3 => self.status = 3,
            (3, 11) if value == 11 && self.features_are_right() => {
                self.status = 11;
                self.queues =
                    Probe::QUEUES.map(|max| ModelQueue { size: u32::from(max), ..ModelQueue::default() });
            }
            (11, 15) if value == 15 => {
                let ready = self.queues.iter().all(|queue| queue.ready);
                self.status = if ready { 15 } else { 15 | 64 };
            }
            _ => {}
        }
    }

    fn features_are_right(&self) -> bool {
        let features = u64::from(self.driver_features[1]) << 32 | u64::from(self.driver_features[0]);
        let offered = Probe::FEATURE | 1 << 28 | 1 << 29 | 1 << 32;
        !self.features_beyond && features & !offered == 0 && features & 1 << 32 != 0
    }

    fn queue_ready(&self) -> u32 {
        let ready = match (self.status, self.queue_sel) {
            (11, 0) => self.queues[0].ready,
            (11, 1) => self.queues[1].ready,
            (15, 0 | 1) => true,
            _ => false,
        };
        u32::from(ready)
    }
}

/// Bytes as decisions.
struct Decisions<'a>(&'a [u8]);

impl Decisions<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    /// A value that means something, or any.
    fn value(&mut self) -> Option<u32> {
        let choice = usize::from(self.byte()?);
        match VALUES.get(choice % (VALUES.len() + 1)) {
            Some(value) => Some(*value),
            None => self.word(),
        }
    }
}

/// Does to a device what `data` says and checks it against the rules after each step.
///
/// # Panics
/// A rule was broken.
pub fn mmio(data: &[u8]) {
    let mut driver = Driver::new(Probe::new(), memory(REGION));
    let mut model = Model::default();
    let mut decisions = Decisions(data);
    while step(&mut driver, &mut model, &mut decisions).is_some() {
        check(&driver, &model);
    }
}

fn step(driver: &mut Driver<Probe>, model: &mut Model, decisions: &mut Decisions<'_>) -> Option<()> {
    match decisions.byte()? % 16 {
        0..=6 => {
            let offset = u64::from(decisions.byte()? % 0x44) * 4;
            let value = decisions.value()?;
            driver.write(offset, value);
            model.write(offset, value);
        }
        // The same queue set up well, so that what comes after it is reached at all.
        7 => {
            for (offset, value) in set_up(decisions.byte()?) {
                driver.write(offset, value);
                model.write(offset, value);
            }
        }
        // The next legal step.
        8 => {
            let status = (model.status << 1 | 1) & 3 | if model.status >= 3 { 11 } else { 0 };
            let status = if model.status == 11 { 15 } else { status };
            if status == 11 {
                for (offset, value) in [(register::DRIVER_FEATURES_SEL, 1), (register::DRIVER_FEATURES, 1)] {
                    driver.write(offset, value);
                    model.write(offset, value);
                }
            }
            driver.write(register::STATUS, status);
            model.write(register::STATUS, status);
        }
        9 | 10 => odd_access(driver, decisions)?,
        11 | 12 => {
            let at = u64::from(decisions.word()? % 0xff00);
            let bytes = decisions.word()?;
            driver.memory.write_obj(bytes, GuestAddress(at)).expect("the address is in memory");
        }
        13 => driver.kick(u32::from(decisions.byte()?)),
        _ => {
            driver.transport.handle_events();
            // The device may find that the driver broke the rules of queues; nothing else may change.
            if model.status == 15 && driver.read(register::STATUS) == 15 | 64 {
                model.status = 15 | 64;
            }
        }
    }
    Some(())
}

/// Register writes that set up one of the two queues.
fn set_up(choice: u8) -> [(u64, u32); 9] {
    let queue = u32::from(choice % 2);
    let base = 0x1000 + 0x1000 * queue;
    [
        (register::QUEUE_SEL, queue),
        (register::QUEUE_NUM, 4),
        (register::QUEUE_DESC_LOW, base),
        (register::QUEUE_DESC_HIGH, 0),
        (register::QUEUE_DRIVER_LOW, base + 0x100),
        (register::QUEUE_DRIVER_HIGH, 0),
        (register::QUEUE_DEVICE_LOW, base + 0x200),
        (register::QUEUE_DEVICE_HIGH, 0),
        (register::QUEUE_READY, 1),
    ]
}

/// An access of any size anywhere. What is not a 32-bit access to a register must have no effect.
fn odd_access(driver: &Driver<Probe>, decisions: &mut Decisions<'_>) -> Option<()> {
    let offset = u64::from(decisions.word()?) & 0x1fff;
    let size = usize::from(decisions.byte()? % 9);
    let mut data = vec![0xa5; size];
    driver.transport.read(offset, &mut data);
    if size != 4 && offset < register::CONFIG {
        assert!(data.iter().all(|byte| *byte == 0), "a register was read with {size} bytes");
    }
    if size != 4 || !offset.is_multiple_of(4) || offset >= register::CONFIG {
        driver.transport.write(offset, &vec![decisions.byte()?; size]);
    }
    Some(())
}

/// What can be seen is what the rules say.
fn check(driver: &Driver<Probe>, model: &Model) {
    assert_eq!(driver.read(register::STATUS), model.status, "status; the model is {model:?}");
    assert_eq!(driver.read(register::QUEUE_READY), model.queue_ready(), "QueueReady; the model is {model:?}");
    let max = [8, 4].get(usize::try_from(model.queue_sel).unwrap_or(usize::MAX)).copied().unwrap_or(0);
    assert_eq!(driver.read(register::QUEUE_NUM_MAX), max);
    driver.transport.with_device(|device| {
        assert_eq!(!device.queues.is_empty(), model.status == 15, "the device has queues if it may use them");
        for (queue, model) in device.queues.iter().zip(&model.queues) {
            let (size, descriptors, available, used) = queue.placement();
            let placement = ModelQueue { size: u32::from(size), descriptors, available, used, ready: true };
            assert_eq!(&placement, model, "the queue moved");
        }
    });
}
