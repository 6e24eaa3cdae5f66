//! The transport driven through its registers, as a vCPU does.

use proptest::prelude::*;

use super::registers as register;
use crate::testing::{Driver, DriverQueue, Probe, fuzz, memory};

const MEMORY: usize = 0x10_0000;

fn driver() -> Driver<Probe> {
    Driver::new(Probe::new(), memory(MEMORY))
}

fn started() -> Driver<Probe> {
    let mut driver = driver();
    driver.start(0);
    assert_eq!(driver.read(register::STATUS), 15);
    driver
}

/// Offers a chain that asks for an echo of `text`; returns the address of the answer.
fn ask(driver: &mut Driver<Probe>, queue: usize, text: &[u8]) -> u64 {
    use vm_memory::{Bytes, GuestAddress};
    let (question, answer) = (0x2_0000, 0x3_0000);
    driver.memory.write_slice(text, GuestAddress(question)).unwrap();
    let length = u32::try_from(text.len()).unwrap();
    driver.queues[queue].add(&[(question, length)], &[(answer, length)]).unwrap();
    answer
}

fn text_at(driver: &Driver<Probe>, address: u64, length: usize) -> Vec<u8> {
    use vm_memory::{Bytes, GuestAddress};
    let mut text = vec![0; length];
    driver.memory.read_slice(&mut text, GuestAddress(address)).unwrap();
    text
}

#[test]
fn the_device_says_what_it_is() {
    let driver = driver();
    assert_eq!(driver.read(0x000), u32::from_le_bytes(*b"virt"));
    assert_eq!(driver.read(0x004), 2);
    assert_eq!(driver.read(0x008), 0x4242);
    assert_eq!(driver.read(0x00c), u32::from_le_bytes(*b"open"));
    assert_eq!(driver.read(0x070), 0);
    assert_eq!(driver.read(0x034), 8);
    driver.write(0x030, 1);
    assert_eq!(driver.read(0x034), 4);
    driver.write(0x030, 2);
    assert_eq!(driver.read(0x034), 0);
    driver.write(0x030, u32::MAX);
    assert_eq!(driver.read(0x034), 0);
}

#[test]
fn there_is_no_shared_memory_region() {
    let driver = driver();
    driver.write(0x0ac, 0);
    for offset in [0x0b0, 0x0b4, 0x0b8, 0x0bc] {
        assert_eq!(driver.read(offset), u32::MAX);
    }
}

#[test]
fn features_are_offered_in_words_and_those_of_the_transport_added() {
    let driver = driver();
    let mut offered = Vec::new();
    for selector in [0, 1, 2, u32::MAX] {
        driver.write(register::DEVICE_FEATURES_SEL, selector);
        offered.push(driver.read(register::DEVICE_FEATURES));
    }
    assert_eq!(offered, [1 << 5 | 1 << 28 | 1 << 29, 1, 0, 0]);
}

#[test]
fn a_ready_device_gets_its_queues_and_answers() {
    let mut driver = started();
    let answer = ask(&mut driver, 1, b"hello");
    driver.kick(1);
    driver.transport.handle_events();
    assert_eq!(text_at(&driver, answer, 5), b"hello");
    assert_eq!(driver.queues[1].take_used().map(|used| used.1), Some(5));
    assert_eq!(driver.interrupts(), 1);
    assert_eq!(driver.read(register::INTERRUPT_STATUS), 1);
    driver.write(register::INTERRUPT_ACK, 1);
    assert_eq!(driver.read(register::INTERRUPT_STATUS), 0);
    assert_eq!(
        driver.transport.with_device(|device| device.features),
        1 << 5 | 7 << 28 & !(1 << 30) | 1 << 32
    );
}

#[test]
fn a_driver_without_version_1_is_refused() {
    let driver = driver();
    driver.negotiate(register::F_VERSION_1);
    assert_eq!(driver.read(register::STATUS), 3);
    driver.negotiate(0);
    assert_eq!(driver.read(register::STATUS), 11);
    driver.negotiate(register::F_EVENT_IDX | register::F_INDIRECT_DESC | Probe::FEATURE);
    assert_eq!(driver.read(register::STATUS), 11);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    for (selector, bit) in [(0, 1 << 6), (0, 1 << 30), (1, 1 << 1), (1, 1 << 31), (2, 1), (7, 1 << 31)] {
        let driver = driver();
        driver.write(register::STATUS, 1);
        driver.write(register::STATUS, 3);
        driver.write(register::DRIVER_FEATURES_SEL, 1);
        driver.write(register::DRIVER_FEATURES, 1);
        driver.write(register::DRIVER_FEATURES_SEL, selector);
        driver.write(register::DRIVER_FEATURES, bit | u32::from(selector == 1));
        driver.write(register::STATUS, 11);
        assert_eq!(driver.read(register::STATUS), 3, "bit {bit:#x} of word {selector}");
    }
}

#[test]
fn features_are_frozen_once_agreed_on() {
    let mut driver = started();
    driver.write(register::DRIVER_FEATURES_SEL, 0);
    driver.write(register::DRIVER_FEATURES, 0);
    ask(&mut driver, 0, b"x");
    driver.transport.handle_events();
    assert_eq!(driver.read(register::STATUS), 15);
    assert_ne!(driver.transport.with_device(|device| device.features) & register::F_EVENT_IDX, 0);
}

#[test]
fn status_steps_can_be_neither_skipped_nor_taken_back() {
    let driver = driver();
    for skipped in [2, 3, 4, 8, 11, 15, 64, 65, 0x100] {
        driver.write(register::STATUS, skipped);
        assert_eq!(driver.read(register::STATUS), 0, "{skipped:#x}");
    }
    driver.write(register::STATUS, 1);
    driver.write(register::STATUS, 11);
    assert_eq!(driver.read(register::STATUS), 1);
    driver.write(register::STATUS, 3);
    driver.write(register::STATUS, 1);
    driver.write(register::STATUS, 2);
    assert_eq!(driver.read(register::STATUS), 3);
    assert_eq!(driver.transport.with_device(|device| device.activations), 0);
}

/// What was wrong in Firecracker's PCI transport in 2026 (CVE-2026-5747): here nothing is left to write to.
#[test]
fn queues_cannot_be_moved_once_the_driver_is_ready() {
    let mut driver = started();
    let before = driver
        .transport
        .with_device(|device| device.queues.iter().map(crate::ReadyQueue::placement).collect::<Vec<_>>());
    for queue in [0, 1] {
        driver.write(register::QUEUE_SEL, queue);
        for offset in (0x030..0x0b0).step_by(4).filter(|offset| *offset != register::STATUS) {
            for value in [0, 1, 4, 0x8000, u32::MAX] {
                if (offset, value) == (register::QUEUE_READY, 0) {
                    continue; // a reset, in a test of its own
                }
                driver.write(offset, value);
                if offset == register::QUEUE_SEL {
                    driver.write(offset, queue);
                }
            }
        }
        assert_eq!(driver.read(register::QUEUE_READY), 1);
    }
    let after = driver
        .transport
        .with_device(|device| device.queues.iter().map(crate::ReadyQueue::placement).collect::<Vec<_>>());
    assert_eq!(before, after);
    let answer = ask(&mut driver, 0, b"still here");
    driver.transport.handle_events();
    assert_eq!(text_at(&driver, answer, 10), b"still here");
}

/// What Linux's NSM driver does when it is unbound: no reset, only QueueReady = 0.
#[test]
fn a_live_queue_that_is_made_unready_resets_the_device() {
    let mut driver = started();
    driver.write(register::QUEUE_SEL, 7);
    driver.write(register::QUEUE_READY, 0);
    assert_eq!(driver.read(register::STATUS), 15, "there is no such queue");
    driver.write(register::QUEUE_SEL, 1);
    driver.write(register::QUEUE_READY, 0);
    assert_eq!(driver.read(register::STATUS), 0);
    assert!(driver.transport.with_device(|device| device.queues.is_empty()));
    driver.start(0);
    let answer = ask(&mut driver, 0, b"as new");
    driver.transport.handle_events();
    assert_eq!(text_at(&driver, answer, 6), b"as new");
}

#[test]
fn a_ready_queue_is_frozen_until_it_is_made_unready() {
    let driver = driver();
    driver.negotiate(0);
    let queue = DriverQueue::new(&driver.memory, 0x1000, 4);
    driver.set_up_queue(0, &queue);
    assert_eq!(driver.read(register::QUEUE_READY), 1);
    driver.write(register::QUEUE_NUM, 3);
    driver.write(register::QUEUE_READY, 1);
    assert_eq!(driver.read(register::QUEUE_READY), 1);
    driver.write(register::QUEUE_READY, 0);
    driver.write(register::QUEUE_NUM, 3);
    driver.write(register::QUEUE_READY, 1);
    assert_eq!(driver.read(register::QUEUE_READY), 0);
}

#[test]
fn queues_that_a_device_cannot_use_do_not_become_ready() {
    let base = u32::try_from(MEMORY).unwrap();
    let sound =
        [(register::QUEUE_NUM, 8), (register::QUEUE_DESC_LOW, 0x1000), (register::QUEUE_DRIVER_LOW, 0x2000)];
    let sound = sound.into_iter().chain([(register::QUEUE_DEVICE_LOW, 0x3000)]);
    let table = 8 * 16;
    let (available, used) = (6 + 8 * 2, 6 + 8 * 8);
    for (offset, value, ready) in [
        (register::QUEUE_NUM, 8, true),
        (register::QUEUE_NUM, 1, true),
        (register::QUEUE_NUM, 0, false),
        (register::QUEUE_NUM, 3, false),
        (register::QUEUE_NUM, 16, false),
        (register::QUEUE_NUM, 0x1_0008, false),
        (register::QUEUE_DESC_LOW, 0, true),
        (register::QUEUE_DESC_LOW, 0x1008, false),
        (register::QUEUE_DESC_LOW, base - table, true),
        (register::QUEUE_DESC_LOW, base - table + 16, false),
        (register::QUEUE_DESC_HIGH, 1, false),
        (register::QUEUE_DESC_HIGH, u32::MAX, false),
        (register::QUEUE_DRIVER_LOW, 0, false),
        (register::QUEUE_DRIVER_LOW, 0x2001, false),
        (register::QUEUE_DRIVER_LOW, base - available, true),
        (register::QUEUE_DRIVER_LOW, base - available + 2, false),
        (register::QUEUE_DRIVER_HIGH, 1, false),
        (register::QUEUE_DEVICE_LOW, 0x3002, false),
        (register::QUEUE_DEVICE_LOW, (base - used) & !3, true),
        (register::QUEUE_DEVICE_LOW, ((base - used) & !3) + 4, false),
        (register::QUEUE_DEVICE_LOW, base * 16, true),
        (register::QUEUE_DEVICE_LOW, base * 17 - 4, false),
        (register::QUEUE_DEVICE_HIGH, 1, false),
    ] {
        let driver = driver();
        driver.negotiate(0);
        driver.write(register::QUEUE_SEL, 0);
        for (offset, value) in sound.clone() {
            driver.write(offset, value);
        }
        driver.write(offset, value);
        driver.write(register::QUEUE_READY, 1);
        assert_eq!(driver.read(register::QUEUE_READY), u32::from(ready), "{offset:#x} = {value:#x}");
    }
}

#[test]
fn a_driver_that_is_ready_without_its_queues_needs_a_reset() {
    let driver = driver();
    driver.negotiate(0);
    driver.set_up_queue(0, &DriverQueue::new(&driver.memory, 0x1000, 4));
    driver.write(register::STATUS, 15);
    assert_eq!(driver.read(register::STATUS), 15 | 64);
    assert_eq!(driver.transport.with_device(|device| device.activations), 0);
    assert_eq!(driver.read(register::INTERRUPT_STATUS), 2);
    assert_eq!(driver.interrupts(), 1);
}

#[test]
fn a_device_that_refuses_needs_a_reset() {
    let mut driver = driver();
    driver.transport.with_device(|device| device.refuses = true);
    driver.start(0);
    assert_eq!(driver.read(register::STATUS), 15 | 64);
    driver.transport.with_device(|device| device.refuses = false);
    driver.start(0);
    assert_eq!(driver.read(register::STATUS), 15);
}

#[test]
fn a_device_that_fails_says_so_and_works_again_after_a_reset() {
    let mut driver = started();
    let generation = driver.read(register::CONFIG_GENERATION);
    driver.transport.with_device(|device| device.fails = true);
    driver.transport.handle_events();
    assert_eq!(driver.read(register::STATUS), 15 | 64);
    assert_eq!(driver.read(register::INTERRUPT_STATUS), 2);
    assert_eq!(driver.read(register::CONFIG_GENERATION), generation + 1);
    assert!(driver.transport.with_device(|device| device.queues.is_empty()));
    // Only a reset leads on, or giving up.
    driver.write(register::STATUS, 15);
    assert_eq!(driver.read(register::STATUS), 15 | 64);

    driver.transport.with_device(|device| device.fails = false);
    driver.start(0);
    assert_eq!(driver.read(register::STATUS), 15);
    assert_eq!(driver.read(register::INTERRUPT_STATUS), 0);
    let answer = ask(&mut driver, 0, b"again");
    driver.transport.handle_events();
    assert_eq!(text_at(&driver, answer, 5), b"again");
}

#[test]
fn a_driver_may_give_up_in_any_state() {
    let mut driver = driver();
    driver.write(register::STATUS, 128);
    assert_eq!(driver.read(register::STATUS), 128);
    driver.write(register::STATUS, 129);
    assert_eq!(driver.read(register::STATUS), 128);
    driver.start(0);
    driver.add_status(register::FAILED);
    assert_eq!(driver.read(register::STATUS), 143);
    assert!(driver.transport.with_device(|device| device.queues.is_empty()));
    driver.start(0);
    assert_eq!(driver.read(register::STATUS), 15);
}

#[test]
fn a_reset_works_in_every_state_and_again_and_again() {
    let mut driver = driver();
    for _ in 0..3 {
        for steps in 0..=4 {
            let resets = driver.transport.with_device(|device| device.resets);
            for status in [1, 3, 11, 15].iter().take(steps) {
                if *status == 11 {
                    driver.write(register::DRIVER_FEATURES_SEL, 1);
                    driver.write(register::DRIVER_FEATURES, 1);
                }
                driver.write(register::STATUS, *status);
            }
            driver.write(register::STATUS, 0);
            assert_eq!(driver.read(register::STATUS), 0);
            assert!(driver.transport.with_device(|device| device.resets) > resets);
        }
        driver.start(0);
        ask(&mut driver, 0, b"x");
        driver.transport.handle_events();
        assert_eq!(driver.read(register::INTERRUPT_STATUS), 1);
        driver.write(register::QUEUE_SEL, 1);
        driver.write(register::STATUS, 0);
        assert_eq!(driver.read(register::INTERRUPT_STATUS), 0);
        assert_eq!(driver.read(register::QUEUE_READY), 0);
        assert_eq!(driver.read(register::QUEUE_NUM_MAX), 8, "QueueSel is 0 again");
    }
}

#[test]
fn notifications_count_only_while_the_driver_is_ready() {
    let mut driver = driver();
    let pending = |driver: &Driver<Probe>, queue| driver.transport.kick(queue).unwrap().read().is_ok();
    driver.kick(0);
    assert!(!pending(&driver, 0));
    driver.start(0);
    driver.kick(1);
    driver.kick(2);
    driver.kick(u32::MAX);
    assert!(!pending(&driver, 0));
    assert!(pending(&driver, 1));
    driver.write(register::STATUS, 0);
    driver.kick(0);
    assert!(!pending(&driver, 0));
}

/// A lock here would hang: a vCPU must not wait for a device at work to learn of its interrupt.
#[test]
fn interrupts_and_notifications_take_no_lock() {
    let driver = started();
    driver.transport.with_device(|_device| {
        driver.kick(0);
        driver.write(register::INTERRUPT_ACK, 3);
        assert_eq!(driver.read(register::INTERRUPT_STATUS), 0);
    });
}

#[test]
fn configuration_space_is_read_in_any_size_and_never_written() {
    let driver = driver();
    for (offset, size, expected) in [
        (0x100, 1, &[1][..]),
        (0x101, 2, &[2, 3]),
        (0x102, 4, &[3, 4, 5, 6]),
        (0x104, 8, &[5, 6, 0, 0, 0, 0, 0, 0]),
        (0x106, 2, &[0, 0]),
        (u64::MAX, 1, &[0]),
    ] {
        let mut data = vec![0xff; size];
        driver.transport.write(offset, &data);
        driver.transport.read(offset, &mut data);
        assert_eq!(data, expected, "{size} bytes at {offset:#x}");
    }
}

#[test]
fn registers_are_read_and_written_as_words_only() {
    let driver = driver();
    for size in [0, 1, 2, 3, 5, 8] {
        driver.transport.write(register::STATUS, &vec![1; size]);
        let mut data = vec![0xff; size];
        driver.transport.read(register::MAGIC_VALUE, &mut data);
        assert_eq!(data, vec![0; size]);
    }
    for offset in [1, 2, 3, 0x6f, 0x71, 0xfd] {
        driver.write(offset, 1);
        assert_eq!(driver.read(offset), 0, "{offset:#x}");
    }
    assert_eq!(driver.read(register::STATUS), 0);
}

#[test]
fn a_device_needs_one_notification_for_each_queue() {
    use vmm_sys_util::eventfd::EventFd;
    let irq = EventFd::new(0).unwrap();
    let made = super::MmioTransport::new(Probe::new(), memory(MEMORY), irq, Vec::new());
    assert!(matches!(made, Err(super::TransportError::Kicks { queues: 2, kicks: 0 })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::testing::cases(512)))]

    #[test]
    fn nothing_but_legal_steps_has_an_effect(data in proptest::collection::vec(any::<u8>(), 0..800)) {
        fuzz::mmio(&data);
    }
}

/// The corpus of the fuzz target, and every input cut short.
#[test]
fn the_corpus_is_replayed() {
    for (_, data) in corpus::inputs("mmio") {
        for end in 0..=data.len() {
            fuzz::mmio(&data[..end]);
        }
    }
}
