//! The mark in the executable that says that it can be a zygote: sites read it, and run nothing.
// JUSTIFICATION: a static has to be placed into a section of its own.
#![allow(unsafe_code)]

use stoic_protocol::zygote::{NOTE_OWNER, NOTE_TYPE};

/// An ELF note with nothing but its name.
#[repr(C, align(4))]
struct Note {
    owner_bytes: u32,
    content_bytes: u32,
    kind: u32,
    owner: [u8; 8],
}

#[used]
// SAFETY: the section is ours alone, and holds one whole note, as sections of that type have to.
#[unsafe(link_section = ".note.stoic")]
static NOTE: Note = Note {
    owner_bytes: 6,
    content_bytes: 0,
    kind: NOTE_TYPE,
    owner: NOTE_OWNER,
};

/// Refers to the note, so that no linker leaves it out.
pub(crate) fn keep() {
    std::hint::black_box(&NOTE);
}
