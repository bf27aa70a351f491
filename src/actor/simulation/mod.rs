//! A node under chance: random requests, a journal that refuses or is slow, crashes, sleep, and time that flies, with
//! everything that is heard compared with what is durable.
//!
//! A seed decides everything, so one that fails says the same again: `SESSILE_SEED=N`. `SESSILE_SEEDS=N` runs so many.

mod chance;
mod clients;
mod commands;
mod letters;
mod run;
mod truth;
mod world;
