//! The life of a device as the driver drives it through the status register (VIRTIO 1.2 sections 2.1 and 3.1.1).
//!
//! A configuration exists only in the state in which it may be written: there is nothing left to write once the
//! driver is ready, so the queues' places are frozen by construction.
//!
//! ```text
//! Reset -> Acknowledged -> Driver -> FeaturesOk -> DriverOk -> NeedsReset
//!   ^          |             |           |            |            |        any state -> Failed
//!   +----------+-------------+-----------+------------+------------+------- (0 written in any state)
//! ```
//! A driver that makes a queue unready in `DriverOk` resets the device by that: the transport sees to it.

use super::registers::{
    ACKNOWLEDGE, DEVICE_NEEDS_RESET, DRIVER, DRIVER_OK, F_VERSION_1, FAILED, FEATURES_OK,
};
use super::setup::QueueSetup;

/// Where the driver stands, with what may be changed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing has happened since the last reset.
    Reset,
    /// The driver has noticed the device.
    Acknowledged,
    /// The driver is choosing features.
    Driver(Negotiation),
    /// The features are agreed on; the driver is setting up queues.
    FeaturesOk(Configuration),
    /// The device is at work with these features.
    DriverOk(u64),
    /// The device has stopped; the status bits the driver had set by then.
    NeedsReset(u32),
    /// The driver has given up; the status bits.
    Failed(u32),
}

/// The features a driver has written so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Negotiation {
    /// Bits 0 to 63.
    pub(super) features: u64,
    /// The driver wrote a bit above 63, which no device of ours offers.
    pub(super) beyond: bool,
}

/// Agreed features and the queues being set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration {
    pub(super) features: u64,
    pub(super) queues: Vec<QueueSetup>,
}

/// What a write to the status register asks of the transport.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// The write is not legal here and has no effect, or changes nothing.
    Ignored,
    /// Go to this state; the device is not concerned.
    To(State),
    /// The driver is ready: activate the device with this configuration.
    Activate(Configuration),
    /// The driver has given up: stop the device, then go to `Failed` with these bits.
    GiveUp(u32),
    /// Reset everything.
    Reset,
}

impl State {
    /// What the status register reads as.
    pub(super) fn bits(&self) -> u32 {
        match self {
            Self::Reset => 0,
            Self::Acknowledged => ACKNOWLEDGE,
            Self::Driver(_) => ACKNOWLEDGE | DRIVER,
            Self::FeaturesOk(_) => ACKNOWLEDGE | DRIVER | FEATURES_OK,
            Self::DriverOk(_) => ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK,
            Self::NeedsReset(bits) => bits | DEVICE_NEEDS_RESET,
            Self::Failed(bits) => bits | FAILED,
        }
    }

    /// The state after the device has failed in this one.
    pub(super) fn needs_reset(&self) -> Self {
        match self {
            Self::Failed(bits) => Self::Failed(bits | DEVICE_NEEDS_RESET),
            other => Self::NeedsReset(other.bits()),
        }
    }

    /// What a write of `value` to the status register means here. A driver adds one bit after the other and clears
    /// none, except by writing 0.
    pub(super) fn transition(&self, value: u32, offered: u64, max_sizes: &[u16]) -> Transition {
        if value == 0 {
            return Transition::Reset;
        }
        let current = self.bits();
        let added = value & !current;
        let cleared = current & !value & !DEVICE_NEEDS_RESET;
        if cleared != 0 {
            return Transition::Ignored;
        }
        match (self, added) {
            (Self::Failed(_), _) => Transition::Ignored,
            (_, FAILED) => Transition::GiveUp(current),
            (Self::Reset, ACKNOWLEDGE) => Transition::To(Self::Acknowledged),
            (Self::Acknowledged, DRIVER) => Transition::To(Self::Driver(Negotiation::default())),
            (Self::Driver(negotiation), FEATURES_OK) => negotiation.accept(offered, max_sizes),
            (Self::FeaturesOk(configuration), DRIVER_OK) => Transition::Activate(configuration.clone()),
            _ => Transition::Ignored,
        }
    }
}

impl Negotiation {
    /// Section 3.1.1 step 5: a device that does not accept the features leaves `FEATURES_OK` unset.
    fn accept(&self, offered: u64, max_sizes: &[u16]) -> Transition {
        if self.beyond || self.features & !offered != 0 || self.features & F_VERSION_1 == 0 {
            return Transition::Ignored;
        }
        let queues = max_sizes.iter().map(|max| QueueSetup::new(*max)).collect();
        Transition::To(State::FeaturesOk(Configuration { features: self.features, queues }))
    }
}
