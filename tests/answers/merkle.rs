//! Promise: roots, proofs and covers are those of RFC 6962, whatever was purged and whatever a proof claims.

use attestlog::Hash;
use attestlog::json::Json;
use attestlog::merkle::{
    Frontier, Nodes, ProofError, consistency_proof, cover, inclusion_proof, leaves_of, root, verify_consistency,
    verify_inclusion,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The tree as RFC 6962 section 2.1 defines it, recursively, without optimisations.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(naive_split(leaves.len()));
            Hash::node(&naive_root(left), &naive_root(right))
        }
    }
}

fn naive_split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// PATH(m, D[n]) of RFC 6962 section 2.1.1.
fn naive_path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = naive_split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) =
        if m < k { (naive_path(m, left), naive_root(right)) } else { (naive_path(m - k, right), naive_root(left)) };
    path.push(sibling);
    path
}

/// SUBPROOF(m, D[n], b) of RFC 6962 section 2.1.2.
fn naive_subproof(m: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if known { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let k = naive_split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, sibling) = if m <= k {
        (naive_subproof(m, left, known), naive_root(right))
    } else {
        (naive_subproof(m - k, right, false), naive_root(left))
    };
    proof.push(sibling);
    proof
}

/// The nodes that remain after a purge: hashes of surviving leaves and of covers. Nothing else is available.
struct Sparse {
    known: BTreeMap<(u8, u64), Hash>,
}

#[derive(Debug, PartialEq)]
enum Missing {
    Node(u8, u64),
    Proof(ProofError),
}

impl From<ProofError> for Missing {
    fn from(e: ProofError) -> Missing {
        Missing::Proof(e)
    }
}

impl Sparse {
    fn new(known: impl IntoIterator<Item = ((u8, u64), Hash)>) -> Sparse {
        Sparse { known: known.into_iter().collect() }
    }

    fn full(leaves: &[Hash]) -> Sparse {
        Sparse::new((0u64..).map(|i| (0, i)).zip(leaves.iter().copied()))
    }

    fn build(&self, level: u8, index: u64) -> Result<Hash, Missing> {
        match self.known.get(&(level, index)) {
            Some(hash) => Ok(*hash),
            None if level == 0 => Err(Missing::Node(level, index)),
            None => Ok(Hash::node(&self.build(level - 1, index * 2)?, &self.build(level - 1, index * 2 + 1)?)),
        }
    }
}

impl Nodes for Sparse {
    type Error = Missing;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Missing> {
        self.build(level, index)
    }
}

fn leaves(n: usize) -> Vec<Hash> {
    (0..n).map(|i| Hash::leaf(format!("entry {i}").as_bytes())).collect()
}

/// The eight leaves and roots of the reference tree of the certificate-transparency tests.
#[test]
fn published_reference_tree() {
    let inputs: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Frontier::empty();
    assert_eq!(tree.root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let hashes: Vec<Hash> = inputs.iter().map(|input| Hash::leaf(input)).collect();
    for (n, (leaf, want)) in hashes.iter().zip(roots).enumerate() {
        tree.append(*leaf, &mut |_, _, _| ());
        assert_eq!(tree.root().to_string(), want);
        assert_eq!(root(&Sparse::full(&hashes), n as u64 + 1).unwrap().to_string(), want);
    }
    let proof = inclusion_proof(&Sparse::full(&hashes), 5, 8).unwrap();
    let want = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(proof.iter().map(Hash::to_string).collect::<Vec<_>>(), want);
    let proof = consistency_proof(&Sparse::full(&hashes), 6, 8).unwrap();
    let want = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(proof.iter().map(Hash::to_string).collect::<Vec<_>>(), want);
}

fn shared() -> PathBuf {
    std::env::var_os("ATTESTLOG_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

/// The published verification vectors: each gives the expected verdict.
#[test]
fn published_vectors() {
    fn files(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, out);
            } else if path.extension().is_some_and(|e| e == "json") {
                out.push(path);
            }
        }
    }
    // `None` if it does not have the length of a hash: no typed proof can contain it, so it counts as refused.
    fn hash(value: &Json) -> Option<Hash> {
        Some(Hash(STANDARD.decode(value.as_str()?).ok()?.try_into().ok()?))
    }
    // Some consistency vectors use short texts as roots, and only compare them; padding preserves that.
    fn padded(value: &Json) -> Hash {
        let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
        bytes.resize(32, 0);
        Hash(bytes.try_into().unwrap())
    }
    fn size(value: &Json) -> u64 {
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap()
    }
    let dir = shared().join("vectors/merkle");
    if !dir.is_dir() {
        eprintln!("SKIPPED published_vectors: {} is not there", dir.display());
        return;
    }
    let mut paths = Vec::new();
    files(&dir, &mut paths);
    assert!(paths.len() > 150, "only {} vectors", paths.len());
    for path in paths {
        let v = Json::parse(&std::fs::read(&path).unwrap()).unwrap().value;
        let get = |key: &str| v.get(key).unwrap();
        let proof: Option<Vec<Hash>> = get("proof").as_array().unwrap_or_default().iter().map(hash).collect();
        let verdict = if v.get("leafIdx").is_some() {
            let (leaf, root) = (hash(get("leafHash")), hash(get("root")));
            proof.zip(leaf.zip(root)).is_some_and(|(proof, (leaf, root))| {
                verify_inclusion(size(get("leafIdx")), size(get("treeSize")), leaf, &proof, root).is_ok()
            })
        } else {
            let (old, new) = (padded(get("root1")), padded(get("root2")));
            proof.is_some_and(|proof| {
                verify_consistency(size(get("size1")), size(get("size2")), old, new, &proof).is_ok()
            })
        };
        assert_eq!(verdict, get("wantErr").as_bool() == Some(false), "{}", path.display());
    }
}

/// Every proof for every pair of sizes up to 40 equals the naive one and verifies.
#[test]
fn every_small_proof() {
    let all = leaves(40);
    let nodes = Sparse::full(&all);
    for n in 1..=all.len() {
        let tree = naive_root(&all[..n]);
        for m in 0..n {
            let proof = inclusion_proof(&nodes, m as u64, n as u64).unwrap();
            assert_eq!(proof, naive_path(m, &all[..n]), "inclusion {m} in {n}");
            verify_inclusion(m as u64, n as u64, all[m], &proof, tree).unwrap();
        }
        for m in 1..=n {
            let proof = consistency_proof(&nodes, m as u64, n as u64).unwrap();
            assert_eq!(proof, naive_subproof(m, &all[..n], true), "consistency {m} to {n}");
            verify_consistency(m as u64, n as u64, naive_root(&all[..m]), tree, &proof).unwrap();
        }
    }
}

/// A tree in which all leaves are equal, with as many as a seq can count.
struct Uniform(Vec<Hash>, Cell<usize>);

impl Uniform {
    fn new() -> Uniform {
        let mut levels = vec![Hash::leaf(b"same")];
        for i in 0..64 {
            levels.push(Hash::node(&levels[i], &levels[i]));
        }
        Uniform(levels, Cell::new(0))
    }
}

impl Nodes for Uniform {
    type Error = ProofError;

    fn node(&self, level: u8, _: u64) -> Result<Hash, ProofError> {
        self.1.set(self.1.get() + 1);
        Ok(self.0[usize::from(level)])
    }
}

/// Sizes up to 2^64-1: proofs are made in logarithmic time and are valid, and nothing overflows.
#[test]
fn huge_sizes() {
    let nodes = Uniform::new();
    let leaf = nodes.0[0];
    let sizes = [1, 2, 3, 1 << 32, (1 << 53) - 1, i64::MAX as u64, 1 << 63, (1 << 63) + 1, u64::MAX - 1, u64::MAX];
    for size in sizes {
        let tree = root(&nodes, size).unwrap();
        for index in [0, 1, size / 3, size / 2, size - 1].into_iter().filter(|&i| i < size) {
            nodes.1.set(0);
            let proof = inclusion_proof(&nodes, index, size).unwrap();
            assert!(nodes.1.get() <= 128, "{} requests for {index} in {size}", nodes.1.get());
            verify_inclusion(index, size, leaf, &proof, tree).unwrap();
        }
        for old in [1, 2, size / 3, size / 2, size - 1, size].into_iter().filter(|&m| m >= 1 && m <= size) {
            nodes.1.set(0);
            let proof = consistency_proof(&nodes, old, size).unwrap();
            assert!(nodes.1.get() <= 128, "{} requests from {old} to {size}", nodes.1.get());
            verify_consistency(old, size, root(&nodes, old).unwrap(), tree, &proof).unwrap();
        }
        assert_eq!(verify_inclusion(size, size, leaf, &[], tree), Err(ProofError::BeyondSize { index: size, size }));
    }
    let mut full = Frontier::load(&nodes, u64::MAX).unwrap();
    let before = full.clone();
    full.append(leaf, &mut |_, _, _| panic!("nothing is completed"));
    assert_eq!(full, before);
}

#[test]
fn refusals_say_why() {
    let all = leaves(6);
    let nodes = Sparse::full(&all);
    let proof = |e| Err(Missing::Proof(e));
    assert_eq!(inclusion_proof(&nodes, 6, 6), proof(ProofError::BeyondSize { index: 6, size: 6 }));
    assert_eq!(inclusion_proof(&nodes, 0, 0), proof(ProofError::BeyondSize { index: 0, size: 0 }));
    assert_eq!(consistency_proof(&nodes, 0, 6), proof(ProofError::FromEmpty));
    assert_eq!(consistency_proof(&nodes, 6, 5), proof(ProofError::Shrunk { old: 6, new: 5 }));
    assert_eq!(inclusion_proof(&nodes, 1, 7), Err(Missing::Node(0, 6)));
    let (r5, r6) = (naive_root(&all[..5]), naive_root(&all));
    let good = consistency_proof(&nodes, 5, 6).unwrap();
    let length = |got| Err(ProofError::Length { expected: 3, got });
    assert_eq!(verify_consistency(5, 6, r5, r6, &[]), length(0));
    assert_eq!(verify_consistency(5, 6, r5, r6, &good[..2]), length(2));
    assert_eq!(verify_consistency(5, 6, r5, r6, &[&good[..], &good[..1]].concat()), length(4));
    assert!(matches!(verify_consistency(5, 6, r6, r6, &good), Err(ProofError::OldRoot { .. })));
    assert!(matches!(verify_consistency(5, 6, r5, r5, &good), Err(ProofError::Root { .. })));
    assert!(matches!(verify_inclusion(0, 1, all[1], &[], all[0]), Err(ProofError::Root { .. })));
}

#[test]
fn the_span_of_a_node() {
    assert_eq!(leaves_of(0, u64::MAX - 1), u64::MAX - 1..u64::MAX);
    assert_eq!(leaves_of(63, 0), 0..1 << 63);
    assert_eq!(leaves_of(63, 1), 1 << 63..u64::MAX);
    for (level, index) in [(64, 0), (255, 3), (8, u64::MAX), (63, 2)] {
        let span = leaves_of(level, index);
        assert!(span.start <= span.end);
    }
}

/// Minimal cover, naively: a node is kept if it is fully purged and no signed size ends strictly inside it.
fn naive_cover(node: (u8, u64), purged: &BTreeSet<u64>, sizes: &[u64], out: &mut Vec<(u8, u64)>) {
    let span = leaves_of(node.0, node.1);
    if purged.range(span.clone()).next().is_none() {
        return;
    }
    let whole = span.clone().all(|leaf| purged.contains(&leaf));
    if whole && !sizes.iter().any(|&m| span.start < m && m < span.end) {
        out.push(node);
        return;
    }
    naive_cover((node.0 - 1, node.1 * 2), purged, sizes, out);
    naive_cover((node.0 - 1, node.1 * 2 + 1), purged, sizes, out);
}

fn ranges(seqs: &BTreeSet<u64>, join: bool) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for &seq in seqs {
        match out.last_mut() {
            // Some adjacent ranges are not joined: that must make no difference.
            Some(last) if last.end == seq && (join || seq % 7 != 0) => last.end += 1,
            _ => out.push(seq..seq + 1),
        }
    }
    out
}

/// Trees of up to 200 leaves, with purged runs, and signed sizes.
fn purges() -> impl Strategy<Value = (usize, BTreeSet<u64>, Vec<u64>)> {
    (1usize..200)
        .prop_flat_map(|n| {
            let n64 = n as u64;
            let runs = prop::collection::vec((0..n64, 1..=n64), 0..6);
            (Just(n), runs, prop::collection::btree_set(1..=n64, 0..6))
        })
        .prop_map(|(n, runs, sizes)| {
            let purged = runs.into_iter().flat_map(|(start, length)| start..(start + length).min(n as u64)).collect();
            (n, purged, sizes.into_iter().collect())
        })
}

fn purged_tree(all: &[Hash], purged: &BTreeSet<u64>, covers: &[(u8, u64)]) -> Sparse {
    let full = Sparse::full(all);
    let alive = (0..all.len() as u64).filter(|i| !purged.contains(i)).map(|i| ((0, i), all[i as usize]));
    Sparse::new(alive.chain(covers.iter().map(|&(l, i)| ((l, i), full.build(l, i).unwrap()))))
}

proptest! {
    #[test]
    fn a_cover_is_enough_and_no_more((n, purged, sizes) in purges(), joined: bool) {
        let all = leaves(n);
        let covers = cover(&ranges(&purged, joined), &sizes);
        let mut want = Vec::new();
        naive_cover((8, 0), &purged, &sizes, &mut want);
        prop_assert_eq!(&covers, &want);
        let covered: Vec<u64> = covers.iter().flat_map(|&(l, i)| leaves_of(l, i)).collect();
        prop_assert!(covered.iter().eq(purged.iter()), "covers exactly what was purged");

        // From survivors and covers alone: every root and every proof equals the whole tree's.
        let left = purged_tree(&all, &purged, &covers);
        let now = n as u64;
        let known: Vec<u64> = sizes.iter().copied().chain([now]).collect();
        for &m in &known {
            let tree = naive_root(&all[..m as usize]);
            prop_assert_eq!(root(&left, m).unwrap(), tree);
            prop_assert_eq!(Frontier::load(&left, m).unwrap().root(), tree);
            for &old in known.iter().filter(|&&old| old <= m) {
                let proof = consistency_proof(&left, old, m).unwrap();
                prop_assert_eq!(&proof, &naive_subproof(old as usize, &all[..m as usize], true));
            }
            for survivor in (0..m).filter(|i| !purged.contains(i)) {
                let proof = inclusion_proof(&left, survivor, m).unwrap();
                prop_assert_eq!(&proof, &naive_path(survivor as usize, &all[..m as usize]));
            }
        }

        // No two siblings could be merged: some signed size would lose its root.
        for pair in covers.windows(2) {
            let ((level, left_index), right) = (pair[0], pair[1]);
            if right == (level, left_index + 1) && left_index % 2 == 0 {
                let merged: Vec<_> = covers.iter().copied().filter(|c| !pair.contains(c))
                    .chain([(level + 1, left_index / 2)]).collect();
                let thinner = purged_tree(&all, &purged, &merged);
                prop_assert!(sizes.iter().any(|&m| root(&thinner, m).is_err()), "{:?} could be merged", pair);
            }
        }
    }

    /// Entries are purged, the tree grows and is signed, and more is purged: the nodes kept first are enough to compute
    /// those that must be kept later.
    #[test]
    fn covers_only_merge(
        (n, first, sizes) in purges(),
        more in prop::collection::btree_set(0u64..260, 0..120),
        grown in 0usize..60,
    ) {
        let all = leaves(n + grown);
        let covers = cover(&ranges(&first, true), &sizes);
        let kept = purged_tree(&all, &first, &covers);
        let mut purged = first;
        purged.extend(more.into_iter().filter(|&i| i < all.len() as u64));
        let mut sizes = sizes;
        sizes.extend([n as u64, all.len() as u64]);
        sizes.sort_unstable();
        for (level, index) in cover(&ranges(&purged, true), &sizes) {
            prop_assert_eq!(kept.build(level, index), Sparse::full(&all).build(level, index));
        }
    }

    #[test]
    fn appending_gives_the_same_tree(n in 0usize..600, cut in 0usize..600) {
        let all = leaves(n);
        let mut tree = Frontier::empty();
        let mut nodes = BTreeMap::new();
        for (i, leaf) in all.iter().enumerate() {
            if i == cut {
                let (size, roots) = tree.parts();
                tree = Frontier::from_parts(size, roots.to_vec()).unwrap();
            }
            tree.append(*leaf, &mut |level, index, hash| {
                assert!(level >= 1);
                assert!(nodes.insert((level, index), hash).is_none(), "reported twice");
            });
        }
        prop_assert_eq!(tree.root(), naive_root(&all));
        prop_assert_eq!(tree.size(), n as u64);
        let whole: usize = (1..=10u8).map(|l| n >> l).sum();
        prop_assert_eq!(nodes.len(), whole);
        for ((level, index), hash) in nodes {
            let span = leaves_of(level, index);
            prop_assert_eq!(hash, naive_root(&all[span.start as usize..span.end as usize]));
        }
        let (_, parts) = tree.parts();
        let mut short = parts.to_vec();
        short.push(Hash::ZERO);
        prop_assert_eq!(Frontier::from_parts(n as u64, short), None);
    }

    /// Any change to a valid proof makes it invalid.
    #[test]
    fn altered_proofs_fail(n in 2usize..300, a: prop::sample::Index, b: prop::sample::Index, bit in 0usize..256) {
        let all = leaves(n);
        let nodes = Sparse::full(&all);
        let (m, size) = (a.index(n), n as u64);
        let tree = naive_root(&all);
        let mut proof = inclusion_proof(&nodes, m as u64, size).unwrap();
        verify_inclusion(m as u64, size, all[m], &proof, tree).unwrap();
        prop_assert!(verify_inclusion(m as u64 ^ 1, size, all[m], &proof, tree).is_err());
        let i = b.index(proof.len());
        proof[i].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verify_inclusion(m as u64, size, all[m], &proof, tree).is_err());

        let old = 1 + a.index(n - 1);
        let old_root = naive_root(&all[..old]);
        let mut proof = consistency_proof(&nodes, old as u64, size).unwrap();
        verify_consistency(old as u64, size, old_root, tree, &proof).unwrap();
        let i = b.index(proof.len());
        proof[i].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verify_consistency(old as u64, size, old_root, tree, &proof).is_err());
    }

    #[test]
    fn any_numbers_are_answered(
        a: u64,
        b: u64,
        shift in 0u32..64,
        hashes in prop::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let proof: Vec<Hash> = hashes.into_iter().map(Hash).collect();
        let (a, b) = (a >> shift, b >> shift);
        prop_assert!(verify_inclusion(a, b, Hash([1; 32]), &proof, Hash::ZERO).is_err());
        prop_assert!(a == b || verify_consistency(a, b, Hash::ZERO, Hash::ZERO, &proof).is_err());
        let span = leaves_of((a % 256) as u8, b);
        prop_assert!(span.start <= span.end);
        let (low, high) = (a.min(b), a.max(b));
        let nodes = cover(&[low..high, high..u64::MAX], &[low / 2, high]);
        prop_assert!(nodes.len() <= 384);
    }
}
