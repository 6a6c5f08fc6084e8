//! Tells the program which sources it was built from: the id that git gives the tree of `src`. It is computed from the files, so it is right
//! without git, in a container and with changes that nobody has committed, and nothing is built again but for changed sources.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src");
    let id = tree(Path::new("src")).expect("the sources are there");
    println!("cargo:rustc-env=RAPPORT_SOURCES={}", hex(&id));
}

/// Id of a folder: of its entries in git's order, in which a folder's name ends in `/`.
fn tree(dir: &Path) -> std::io::Result<[u8; 20]> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name().into_encoded_bytes();
        let (mode, id) = if kind.is_dir() {
            ("40000", tree(&path)?)
        } else {
            let executable = fs::metadata(&path)?.permissions().mode() & 0o111 != 0;
            (if executable { "100755" } else { "100644" }, object("blob", &fs::read(&path)?))
        };
        let sorted_by = if kind.is_dir() { [&name, &b"/"[..]].concat() } else { name.clone() };
        entries.push((sorted_by, [mode.as_bytes(), b" ", &name, b"\0", &id].concat()));
    }
    entries.sort();
    Ok(object("tree", &entries.into_iter().flat_map(|(_, line)| line).collect::<Vec<u8>>()))
}

fn object(kind: &str, content: &[u8]) -> [u8; 20] {
    sha1(&[format!("{kind} {}\0", content.len()).as_bytes(), content].concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-1 (RFC 3174); git's choice, no defence against anybody.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut w = [0u32; 80];
        for (w, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
            *w = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for i in 16..80 {
            w[i] = (w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, w) in w.iter().enumerate() {
            let (f, k) = match i / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*w);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (s, x) in state.iter_mut().zip([a, b, c, d, e]) {
            *s = s.wrapping_add(x);
        }
    }
    let mut id = [0; 20];
    for (out, word) in id.chunks_exact_mut(4).zip(state) {
        out.copy_from_slice(&word.to_be_bytes());
    }
    id
}
