//! Queues and the chains in them: what a driver may say, and what it may not.

use proptest::prelude::*;
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::chain::MAX_CHAIN_BYTES;
use crate::testing::{DriverQueue, INDIRECT, NEXT, WRITE, memory, write_descriptor};

const SIZE: u16 = 8;
const REGION: usize = 0x40_0000;
/// Start of the second region of guest memory.
const UPPER: u64 = 0x400_0000;

struct Setup {
    memory: GuestMemoryMmap,
    driver: DriverQueue,
    device: ReadyQueue,
    irq: EventFd,
}

fn set_up(event_index: bool, indirect: bool) -> Setup {
    let memory = memory(REGION);
    let driver = DriverQueue::new(&memory, 0x1000, SIZE);
    let mut queue = Queue::new(SIZE).unwrap();
    queue.set_desc_table_address(Some(u32::try_from(driver.descriptors()).unwrap()), None);
    queue.set_avail_ring_address(Some(u32::try_from(driver.available()).unwrap()), None);
    queue.set_used_ring_address(Some(u32::try_from(driver.used()).unwrap()), None);
    queue.set_event_idx(event_index);
    queue.set_ready(true);
    let irq = EventFd::new(EFD_NONBLOCK).unwrap();
    let interrupt = Arc::new(Interrupt::new(irq.try_clone().unwrap()));
    let kick = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
    let device = ReadyQueue::new(queue, memory.clone(), kick, interrupt, indirect);
    Setup { memory, driver, device, irq }
}

fn refused(setup: &mut Setup) -> ChainError {
    match setup.device.pop(&mut Chain::new()) {
        Err(QueueError::Chain(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chain_is_what_the_driver_offered() {
    let mut setup = set_up(true, true);
    let mut chain = Chain::new();
    assert!(!setup.device.pop(&mut chain).unwrap());
    let head = setup.driver.add(&[(0x1_0000, 10), (0x2_0000, 20)], &[(0x3_0000, 30), (UPPER, 40)]).unwrap();
    assert!(setup.device.pop(&mut chain).unwrap());
    assert_eq!(chain.head(), head);
    assert_eq!((chain.readable().len(), chain.writable().len()), (30, 70));
    let segments: Vec<_> =
        chain.writable().segments(25, 10).map(|part| (part.address.0, part.length)).collect();
    assert_eq!(segments, [(0x3_0019, 5), (UPPER, 5)]);
    assert!(!setup.device.pop(&mut chain).unwrap());
    setup.device.undo_pop();
    assert!(setup.device.pop(&mut chain).unwrap());
    assert_eq!(chain.head(), head);
    setup.device.add_used(head, 70).unwrap();
    assert_eq!(setup.driver.take_used(), Some((head, 70)));
}

#[test]
fn bytes_go_where_the_buffers_are() {
    let mut setup = set_up(true, true);
    setup.memory.write_slice(b"abcdef", GuestAddress(0x1_0000)).unwrap();
    setup.memory.write_slice(b"ghij", GuestAddress(UPPER)).unwrap();
    setup.driver.add(&[(0x1_0000, 6), (UPPER, 4)], &[(0x2_0000, 3), (0x2_0010, 4)]).unwrap();
    let mut chain = Chain::new();
    setup.device.pop(&mut chain).unwrap();
    let mut text = [0; 5];
    assert_eq!(chain.readable().read(&setup.memory, 4, &mut text).unwrap(), 5);
    assert_eq!(&text, b"efghi");
    assert_eq!(chain.readable().read(&setup.memory, 8, &mut text).unwrap(), 2);
    assert_eq!(chain.readable().read(&setup.memory, 11, &mut text).unwrap(), 0);
    assert_eq!(chain.writable().write(&setup.memory, 2, b"123456789").unwrap(), 5);
    let mut text = [0; 4];
    setup.memory.read_slice(&mut text, GuestAddress(0x2_0010)).unwrap();
    assert_eq!(&text, b"2345");
}

/// An independent driver: virtio-queue's own mock.
#[test]
fn chains_of_another_driver_are_understood() {
    let memory = memory(REGION);
    let mut mock = MockSplitQueue::create(&memory, GuestAddress(0x8000), 16);
    let irq = EventFd::new(EFD_NONBLOCK).unwrap();
    let mut queue = ReadyQueue::new(
        mock.create_queue().unwrap(),
        memory.clone(),
        Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
        Arc::new(Interrupt::new(irq)),
        true,
    );
    let mut chain = Chain::new();
    // The mock uses the same descriptors for each chain.
    for descriptors in [3, 1, 2] {
        mock.add_chain(descriptors).unwrap();
        assert!(queue.pop(&mut chain).unwrap());
        assert_eq!(chain.readable().len(), usize::from(descriptors) * 0x1000);
        assert!(!queue.pop(&mut chain).unwrap());
    }
}

#[test]
fn a_loop_ends() {
    let mut setup = set_up(true, true);
    setup.driver.write_descriptor(0, 0x1_0000, 1, NEXT, 1);
    setup.driver.write_descriptor(1, 0x1_0000, 1, NEXT, 0);
    setup.driver.offer(0);
    assert_eq!(refused(&mut setup), ChainError::TooLong(SIZE));
}

#[test]
fn a_chain_may_be_as_long_as_the_queue() {
    let mut setup = set_up(true, true);
    let buffers = [(0x1_0000, 1); 8];
    setup.driver.add(&buffers, &[]).unwrap();
    let mut chain = Chain::new();
    assert!(setup.device.pop(&mut chain).unwrap());
    assert_eq!(chain.readable().len(), 8);
}

#[test]
fn indices_outside_their_table_are_refused() {
    let mut setup = set_up(true, true);
    setup.driver.offer(SIZE);
    assert_eq!(refused(&mut setup), ChainError::Index { index: SIZE, size: SIZE });
    let mut setup = set_up(true, true);
    setup.driver.write_descriptor(0, 0x1_0000, 1, NEXT, u16::MAX);
    setup.driver.offer(0);
    assert_eq!(refused(&mut setup), ChainError::Index { index: u16::MAX, size: SIZE });
}

#[test]
fn buffers_must_be_in_memory_to_the_last_byte() {
    let end = u64::try_from(REGION).unwrap();
    for (address, length, inside) in [
        (end - 1, 1, true),
        (end - 1, 2, false),
        (end, 1, false),
        (UPPER - 1, 1, false),
        (UPPER + end - 16, 16, true),
        (UPPER + end - 16, 17, false),
        (u64::MAX, 1, false),
        (u64::MAX - 15, 16, false),
        (u64::MAX, 0, true),
    ] {
        for flags in [0, WRITE] {
            let mut setup = set_up(true, true);
            setup.driver.write_descriptor(0, address, length, flags, 0);
            setup.driver.offer(0);
            let popped = setup.device.pop(&mut Chain::new());
            assert_eq!(popped.is_ok(), inside, "{length} bytes at {address:#x}: {popped:?}");
        }
    }
}

#[test]
fn a_chain_has_at_most_a_mebibyte() {
    for (last, taken) in [(MAX_CHAIN_BYTES / 2, true), (MAX_CHAIN_BYTES / 2 + 1, false), (u32::MAX, false)] {
        let mut setup = set_up(true, true);
        setup.driver.add(&[(0, MAX_CHAIN_BYTES / 2)], &[(0, last)]).unwrap();
        match setup.device.pop(&mut Chain::new()) {
            Ok(popped) => assert!(popped && taken),
            Err(error) => assert!(!taken && matches!(error, QueueError::Chain(ChainError::TooLarge))),
        }
    }
}

#[test]
fn readable_buffers_come_first() {
    let mut setup = set_up(true, true);
    setup.driver.write_descriptor(0, 0x1_0000, 1, NEXT | WRITE, 1);
    setup.driver.write_descriptor(1, 0x1_0000, 1, 0, 0);
    setup.driver.offer(0);
    assert_eq!(refused(&mut setup), ChainError::Order);
}

#[test]
fn an_indirect_table_is_followed() {
    let mut setup = set_up(true, true);
    let table = UPPER + 0x100;
    write_descriptor(&setup.memory, table, 0, (0x1_0000, 5, NEXT, 2));
    write_descriptor(&setup.memory, table, 2, (0x2_0000, 6, WRITE, 0));
    // Section 2.7.5.3: ordinary descriptors may lead to the one that points to the table.
    setup.driver.write_descriptor(3, 0x3_0000, 7, NEXT, 4);
    setup.driver.write_descriptor(4, table, 48, INDIRECT, 0);
    setup.driver.offer(3);
    let mut chain = Chain::new();
    assert!(setup.device.pop(&mut chain).unwrap());
    assert_eq!((chain.head(), chain.readable().len(), chain.writable().len()), (3, 12, 6));
}

#[test]
fn indirect_tables_have_rules() {
    let memory_end = u64::try_from(REGION).unwrap();
    let outside = |address, length| ChainError::Range { address, length };
    for (address, length, flags, expected) in [
        (0x1_0000, 0, INDIRECT, ChainError::IndirectLength(0)),
        (0x1_0000, 15, INDIRECT, ChainError::IndirectLength(15)),
        (0x1_0000, 17, INDIRECT, ChainError::IndirectLength(17)),
        (0x1_0000, 0x10_0000, INDIRECT, ChainError::IndirectLength(0x10_0000)),
        (memory_end - 16, 32, INDIRECT, outside(memory_end - 16, 32)),
        (u64::MAX - 15, 32, INDIRECT, outside(u64::MAX - 15, 32)),
        (0x1_0000, 16, INDIRECT | NEXT, ChainError::Indirect),
    ] {
        let mut setup = set_up(true, true);
        setup.driver.write_descriptor(0, address, length, flags, 0);
        setup.driver.offer(0);
        assert_eq!(refused(&mut setup), expected);
    }
}

#[test]
fn indirect_tables_cannot_be_nested_or_point_outside_themselves() {
    let mut setup = set_up(true, true);
    write_descriptor(&setup.memory, 0x1_0000, 0, (0x1_0000, 16, INDIRECT, 0));
    setup.driver.write_descriptor(0, 0x1_0000, 16, INDIRECT, 0);
    setup.driver.offer(0);
    assert_eq!(refused(&mut setup), ChainError::Indirect);

    let mut setup = set_up(true, true);
    write_descriptor(&setup.memory, 0x1_0000, 0, (0x1_0000, 16, NEXT, 1));
    setup.driver.write_descriptor(0, 0x1_0000, 16, INDIRECT, 0);
    setup.driver.offer(0);
    assert_eq!(refused(&mut setup), ChainError::Index { index: 1, size: 1 });

    let mut setup = set_up(true, true);
    write_descriptor(&setup.memory, 0x1_0000, 0, (0x1_0000, 1, NEXT, 0));
    setup.driver.write_descriptor(0, 0x1_0000, 1600, INDIRECT, 0);
    setup.driver.offer(0);
    assert_eq!(refused(&mut setup), ChainError::TooLong(SIZE));
}

#[test]
fn an_indirect_table_that_was_not_agreed_on_is_refused() {
    let mut setup = set_up(true, false);
    write_descriptor(&setup.memory, 0x1_0000, 0, (0x2_0000, 1, 0, 0));
    setup.driver.write_descriptor(0, 0x1_0000, 16, INDIRECT, 0);
    setup.driver.offer(0);
    assert_eq!(refused(&mut setup), ChainError::Indirect);
}

#[test]
fn an_index_that_runs_ahead_is_refused() {
    let mut setup = set_up(true, true);
    setup.driver.set_available_index(SIZE + 1);
    let popped = setup.device.pop(&mut Chain::new());
    assert!(matches!(popped, Err(QueueError::Ring(virtio_queue::Error::InvalidAvailRingIndex))));
}

#[test]
fn one_interrupt_for_a_batch_and_none_that_is_not_wanted() {
    let mut setup = set_up(true, true);
    let mut chain = Chain::new();
    for _ in 0..4 {
        setup.driver.add(&[], &[(0x1_0000, 1)]).unwrap();
        setup.device.pop(&mut chain).unwrap();
        setup.device.add_used(chain.head(), 0).unwrap();
    }
    setup.device.signal().unwrap();
    assert_eq!(setup.irq.read().unwrap(), 1);
    setup.device.signal().unwrap();
    assert!(setup.irq.read().is_err(), "nothing was used since");

    setup.driver.set_used_event(5);
    for expected in [false, true, false] {
        setup.driver.add(&[], &[(0x1_0000, 1)]);
        while setup.driver.take_used().is_some() {}
        setup.device.pop(&mut chain).unwrap();
        setup.device.add_used(chain.head(), 0).unwrap();
        setup.device.signal().unwrap();
        assert_eq!(setup.irq.read().is_ok(), expected);
    }
}

#[test]
fn without_the_event_index_a_flag_says_whether_interrupts_are_wanted() {
    let mut setup = set_up(false, true);
    let mut chain = Chain::new();
    for (flags, interrupts) in [(0, true), (1, false), (0, true)] {
        setup.driver.set_available_flags(flags);
        setup.driver.add(&[], &[(0x1_0000, 1)]).unwrap();
        setup.device.pop(&mut chain).unwrap();
        setup.device.add_used(chain.head(), 0).unwrap();
        setup.device.signal().unwrap();
        assert_eq!(setup.irq.read().is_ok(), interrupts);
    }
}

#[test]
fn notifications_are_asked_for_where_the_device_stopped() {
    let mut setup = set_up(true, true);
    let mut chain = Chain::new();
    setup.driver.add(&[], &[(0x1_0000, 1)]).unwrap();
    setup.device.pop(&mut chain).unwrap();
    assert!(!setup.device.enable_notification().unwrap());
    assert_eq!(setup.driver.avail_event(), 1);
    setup.driver.add(&[], &[(0x1_0000, 1)]).unwrap();
    assert!(setup.device.enable_notification().unwrap(), "what came in between is not overlooked");
}

#[test]
fn counters_of_a_queue_wrap() {
    let mut setup = set_up(true, true);
    let mut chain = Chain::new();
    for round in 0..70_000u32 {
        let head = setup.driver.add(&[], &[(0x1_0000, 1)]).unwrap();
        assert!(setup.device.pop(&mut chain).unwrap());
        setup.device.add_used(chain.head(), round).unwrap();
        assert_eq!(setup.driver.take_used(), Some((head, round)));
    }
}

#[test]
fn sockets_and_guest_memory_exchange_bytes_without_a_copy() {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use crate::IoVecs;

    let mut setup = set_up(true, true);
    let (mut host, device) = UnixStream::pair().unwrap();
    setup.driver.add(&[(0x1_0000, 3), (UPPER, 4)], &[(0x2_0000, 2), (0x3_0000, 4)]).unwrap();
    let mut chain = Chain::new();
    setup.device.pop(&mut chain).unwrap();
    setup.memory.write_slice(b"abc", GuestAddress(0x1_0000)).unwrap();
    setup.memory.write_slice(b"defg", GuestAddress(UPPER)).unwrap();

    let mut vectors = IoVecs::new(&setup.memory);
    assert!(vectors.is_empty());
    assert_eq!(vectors.push(chain.readable(), 1, 100).unwrap(), 6);
    assert_eq!(vectors.send(device.as_fd()).unwrap(), 6);
    let mut text = [0; 6];
    host.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"bcdefg");

    let mut vectors = IoVecs::new(&setup.memory);
    assert_eq!(vectors.push(chain.writable(), 1, 4).unwrap(), 4);
    assert!(vectors.receive(device.as_fd()).unwrap_err().would_block());
    host.write_all(b"vwxyz").unwrap();
    assert_eq!(vectors.receive(device.as_fd()).unwrap(), 4);
    let mut text = [0; 5];
    setup.memory.read_slice(&mut text, GuestAddress(0x2_0000)).unwrap();
    assert_eq!(&text, b"\0v\0\0\0");
    setup.memory.read_slice(&mut text, GuestAddress(0x3_0000)).unwrap();
    assert_eq!(&text, b"wxy\0\0");

    drop(host);
    assert!(!vectors.send(device.as_fd()).unwrap_err().would_block());
}

#[test]
fn a_list_that_is_full_says_how_much_it_took() {
    use crate::{IoVecs, MAX_SEGMENTS};

    let mut setup = set_up(true, true);
    setup.driver.add(&[(0x1_0000, 1); 8], &[]).unwrap();
    let mut chain = Chain::new();
    setup.device.pop(&mut chain).unwrap();
    let mut vectors = IoVecs::new(&setup.memory);
    for _ in 0..MAX_SEGMENTS / 8 {
        assert_eq!(vectors.push(chain.readable(), 0, 8).unwrap(), 8);
    }
    assert_eq!(vectors.push(chain.readable(), 0, 8).unwrap(), 0);
    assert_eq!(vectors.len(), MAX_SEGMENTS);
}

proptest! {
    /// Whatever is in the tables, a chain is refused or lies in memory, within its limits, and soon.
    #[test]
    fn any_table_gives_a_chain_in_memory_or_an_error(
        descriptors in proptest::collection::vec(
            (any::<u64>(), any::<u32>(), 0u16..8, 0u16..12, any::<bool>()), usize::from(SIZE)),
        indirect in any::<bool>(),
    ) {
        let mut setup = set_up(true, indirect);
        for (index, (address, length, flags, next, tame)) in (0u16..).zip(descriptors) {
            // Tame ones point into memory, some of them into the table itself.
            let (address, length) = if tame {
                (address % 0x2000, length % 0x100)
            } else {
                (address, length)
            };
            setup.driver.write_descriptor(index, address, length, flags, next);
            setup.driver.offer(index);
        }
        let mut chain = Chain::new();
        for _ in 0..SIZE {
            if setup.device.pop(&mut chain).is_ok() {
                let bytes = chain.readable().len() + chain.writable().len();
                prop_assert!(bytes <= usize::try_from(MAX_CHAIN_BYTES).unwrap());
                let mut copy = vec![0; chain.readable().len()];
                prop_assert_eq!(chain.readable().read(&setup.memory, 0, &mut copy).unwrap(), copy.len());
                let mut copy = vec![0; chain.writable().len()];
                prop_assert_eq!(chain.writable().read(&setup.memory, 0, &mut copy).unwrap(), copy.len());
            }
        }
    }
}
