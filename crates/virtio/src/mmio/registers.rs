//! The registers of virtio-mmio version 2: VIRTIO 1.2 section 4.2.2 table 4.1, unless said otherwise.

/// "virt", little endian.
pub const MAGIC: u32 = 0x7472_6976;
/// Version of the interface: 2 is the one of VIRTIO 1.0 and later.
pub const VERSION: u32 = 2;
/// The vendor of the device; "open" in ASCII, little endian. Drivers do not look at it.
pub const VENDOR: u32 = 0x6e65_706f;

/// MagicValue.
pub const MAGIC_VALUE: u64 = 0x000;
/// Version.
pub const VERSION_REGISTER: u64 = 0x004;
/// DeviceID.
pub const DEVICE_ID: u64 = 0x008;
/// VendorID.
pub const VENDOR_ID: u64 = 0x00c;
/// DeviceFeatures: the 32 bits chosen by DeviceFeaturesSel.
pub const DEVICE_FEATURES: u64 = 0x010;
/// DeviceFeaturesSel.
pub const DEVICE_FEATURES_SEL: u64 = 0x014;
/// DriverFeatures: the 32 bits chosen by DriverFeaturesSel.
pub const DRIVER_FEATURES: u64 = 0x020;
/// DriverFeaturesSel.
pub const DRIVER_FEATURES_SEL: u64 = 0x024;
/// QueueSel: which queue the queue registers speak of.
pub const QUEUE_SEL: u64 = 0x030;
/// QueueNumMax (QueueSizeMax in VIRTIO 1.3).
pub const QUEUE_NUM_MAX: u64 = 0x034;
/// QueueNum (QueueSize in VIRTIO 1.3).
pub const QUEUE_NUM: u64 = 0x038;
/// QueueReady.
pub const QUEUE_READY: u64 = 0x044;
/// QueueNotify.
pub const QUEUE_NOTIFY: u64 = 0x050;
/// InterruptStatus.
pub const INTERRUPT_STATUS: u64 = 0x060;
/// InterruptACK.
pub const INTERRUPT_ACK: u64 = 0x064;
/// Status.
pub const STATUS: u64 = 0x070;
/// QueueDescLow.
pub const QUEUE_DESC_LOW: u64 = 0x080;
/// QueueDescHigh.
pub const QUEUE_DESC_HIGH: u64 = 0x084;
/// QueueDriverLow.
pub const QUEUE_DRIVER_LOW: u64 = 0x090;
/// QueueDriverHigh.
pub const QUEUE_DRIVER_HIGH: u64 = 0x094;
/// QueueDeviceLow.
pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
/// QueueDeviceHigh.
pub const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
/// SHMLenLow, SHMLenHigh, SHMBaseLow, SHMBaseHigh: all ones where there is no such region.
pub const SHM_FIRST: u64 = 0x0b0;
/// The last of the four.
pub const SHM_LAST: u64 = 0x0bc;
/// What they read as.
pub const SHM_NONE: u32 = u32::MAX;
/// ConfigGeneration.
pub const CONFIG_GENERATION: u64 = 0x0fc;
/// Start of the configuration space.
pub const CONFIG: u64 = 0x100;
/// Size of the range a device occupies: the registers and its configuration space, one page.
pub const REGION_BYTES: u64 = 0x1000;

/// Status bits (section 2.1): the driver has noticed the device.
pub const ACKNOWLEDGE: u32 = 1;
/// The driver knows how to drive it.
pub const DRIVER: u32 = 2;
/// The driver is set up and ready.
pub const DRIVER_OK: u32 = 4;
/// The features have been agreed on.
pub const FEATURES_OK: u32 = 8;
/// The device cannot go on without a reset. The only bit that the device sets.
pub const DEVICE_NEEDS_RESET: u32 = 64;
/// The driver has given up.
pub const FAILED: u32 = 128;

/// Feature bits of queues and transport (section 6): descriptors may point to tables of descriptors.
pub const F_INDIRECT_DESC: u64 = 1 << 28;
/// Notifications and interrupts are suppressed by index.
pub const F_EVENT_IDX: u64 = 1 << 29;
/// The device obeys VIRTIO 1.0 and later, not the legacy interface. We require it.
pub const F_VERSION_1: u64 = 1 << 32;
/// What this transport offers for every device.
pub const OFFERED: u64 = F_INDIRECT_DESC | F_EVENT_IDX | F_VERSION_1;
