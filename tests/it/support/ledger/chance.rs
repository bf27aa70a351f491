//! Seeded randomness and the settings of the torture tests; no test here is random in any other way.

/// `SplitMix64` (Steele, Lea, Flood 2014): one word of state, every seed is as good as another.
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for one thread or one step, so that the others do not shift when it draws more.
    pub fn fork(&mut self) -> Self {
        Self(self.word())
    }

    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap();
        usize::try_from(self.word() % bound).unwrap()
    }

    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of the cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`.
    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// The seed of this run: `SESSILE_SEED`, or one from the clock. Print it when something fails.
pub fn seed() -> u64 {
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros();
    setting("SESSILE_SEED", u64::try_from(clock % 1_000_000_000).unwrap())
}

/// The number in the environment variable `name`, or `default`.
#[expect(clippy::disallowed_methods, reason = "the one place that asks how long to torture")]
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

/// Tells whoever runs the tests what they have shown.
#[expect(clippy::print_stdout, reason = "the figures are the result")]
pub fn report(line: &str) {
    println!("{line}");
}
