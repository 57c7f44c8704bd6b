//! PURE. The VLAN tags of a frame (IEEE 802.1Q).

use std::fmt;

/// A VLAN identifier (IEEE 802.1Q), 0 to 4095; 0 means that the tag contains only a priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct VlanId(u16);

impl VlanId {
    /// The low twelve bits of a tag control information field.
    pub const fn from_tci(tci: u16) -> Self {
        Self(tci & 0x0fff)
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How many VLAN tags are read, including the one that the kernel strips. A frame with more is ignored: a remote mirror
/// adds one to a customer's two, and no network has a fourth.
pub const TAGS: usize = 3;

/// The VLAN tags of a frame, outermost first; displayed as `10,20`, or `-` if there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vlans {
    ids: [VlanId; TAGS],
    count: usize,
}

impl Vlans {
    /// The tags, outermost first.
    pub fn ids(&self) -> &[VlanId] {
        &self.ids[..self.count]
    }

    /// The outermost tag, to which a capture can be limited.
    pub fn outermost(&self) -> Option<VlanId> {
        self.ids().first().copied()
    }

    /// Adds the next inner tag; `None` if there is no room for it.
    pub(super) fn push(&mut self, id: VlanId) -> Option<()> {
        *self.ids.get_mut(self.count)? = id;
        self.count += 1;
        Some(())
    }
}

impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("-");
        }
        for (at, id) in self.ids().iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            fmt::Display::fmt(id, f)?;
        }
        Ok(())
    }
}
