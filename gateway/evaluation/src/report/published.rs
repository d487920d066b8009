//! The figures that the paper prints, to stand beside ours. From the paper's Tables 2 to 5 and its section 4.2; the
//! decimals that it leaves out, from the authors' repository (Heronalps/STOIC, Apache-2.0).

/// A row of Table 2: method, runtime, best window (the order, for autoregression), MAE in seconds.
pub type Modelled = (&'static str, &'static str, u32, f64);

/// Table 2, over 1,244 deployments of each runtime in January 2020.
pub const TABLE_2: [Modelled; 9] = [
    ("AutoReg", "cpu", 15, 8.977),
    ("AutoReg", "gpu1", 15, 9.605),
    ("AutoReg", "gpu2", 15, 17.918),
    ("Avg. SW", "cpu", 33, 7.7147),
    ("Avg. SW", "gpu1", 31, 8.0065),
    ("Avg. SW", "gpu2", 91, 16.5249),
    ("Med. SW", "cpu", 13, 5.9605),
    ("Med. SW", "gpu1", 31, 5.6687),
    ("Med. SW", "gpu2", 27, 14.4806),
];

/// Table 3, PMAE of T_d, T_p and T_s in the first and in the second half, over 50 runs of 150 images on `gpu1`.
pub const TABLE_3: [[f64; 3]; 2] = [[0.4271, 0.1120, 0.1576], [0.2926, 0.0532, 0.0921]];

/// A row of Table 4: name, success rate, total by MIN-LAT, total by the worst choice.
pub type Scheduled = (&'static str, f64, f64, f64);

/// Table 4, over 162 batches in 24 hours on all four runtimes.
pub const TABLE_4: [Scheduled; 3] = [
    ("Selector", 0.92, 1.05, 0.30),
    ("Duplicator Edge vs GPU1", 0.97, 1.02, 0.30),
    ("Duplicator Edge vs GPU2", 0.95, 1.01, 0.30),
];

/// Section 4.2: seconds in sum of the selector, of MIN-LAT and of the worst choice. By these the selector takes 107.5 %
/// of MIN-LAT, and not the 105 % of Table 4.
pub const TOTALS: [(&str, f64); 3] = [
    ("STOIC Selector", 10_770.0),
    ("MIN-LAT", 10_022.0),
    ("worst case", 35_940.0),
];

/// Table 5: what STOIC chose, and the cloud seconds that it saved (+) or lost (-).
pub const TABLE_5: [(&str, f64); 3] = [("Edge", 1393.0), ("GPU1", -440.0), ("GPU2", -257.0)];
