//! PURE. The items that a fold processes, in chronological order.

use super::input::PendingPoint;
use crate::{
    base::fact::{DoorFact, Fact},
    engine::fold::FoldItem,
    pipeline::intake::NewEdit,
};

/// Where an item of a fold came from, which determines the fact that gets the decision.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FactOrigin {
    NewDoor,
    /// A logged door fact, by its index.
    OldDoor(usize),
    /// A point of a logged presence, by the index of the presence.
    OldPoint(usize),
    /// A logged edit, by its index.
    OldEdit(usize),
    /// A new edit, by its index.
    NewEdit(usize),
    /// A point that is not in the log yet, by its index.
    Pending(usize),
}

/// The logged facts and the new ones, in the order of their places.
pub(crate) fn items<'a>(
    old: &'a [Fact],
    doors: &'a [DoorFact],
    points: &'a [PendingPoint],
    edits: &'a [NewEdit],
) -> Vec<(FoldItem<'a>, FactOrigin)> {
    let mut items: Vec<(FoldItem<'_>, FactOrigin)> =
        Vec::with_capacity(old.len() + doors.len() + points.len() + edits.len());
    for (index, fact) in old.iter().enumerate() {
        match fact {
            Fact::Door(door) if !door.too_late => items.push((FoldItem::door(door), FactOrigin::OldDoor(index))),
            Fact::Presence(presence) => items.extend(presence.points.iter().map(|point| {
                (FoldItem::seen(presence.subject, presence.business, presence.mac, *point), FactOrigin::OldPoint(index))
            })),
            Fact::Edit(edit) => items.push((FoldItem::edit(edit, false), FactOrigin::OldEdit(index))),
            Fact::Door(_) | Fact::UnknownDevice(_) | Fact::Rejected(_) => {}
        }
    }
    items.extend(doors.iter().map(|door| (FoldItem::door(door), FactOrigin::NewDoor)));
    items.extend(points.iter().enumerate().map(|(index, point)| (point.item(), FactOrigin::Pending(index))));
    items.extend(edits.iter().enumerate().map(|(index, new)| (new.item(), FactOrigin::NewEdit(index))));
    // A point may occur twice: from the database and from memory.
    items.sort_by_key(|(item, _)| item.place);
    items.dedup_by_key(|(item, _)| (item.place, item.subject));
    items
}
