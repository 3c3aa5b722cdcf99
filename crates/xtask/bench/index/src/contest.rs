//! Builds every bank, searches it, and prints a table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use cpu_time::{ProcessTime, ThreadTime};
use lookout_core::{Candidate, Embedding};
use lookout_index::{Index, IndexBuilder, SearchMethod};
use serde::{Deserialize, Serialize};

use crate::bank::{Bank, K};
use crate::peer::{self, Peer};

/// Candidates that are asked for, at most: making more of them would be what is measured.
const MAX_ASKED: usize = 128;
/// Searches that are timed.
const SEARCHES: usize = 3000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Numbers of synthetic entries
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "20000,100000")]
    entries: Vec<usize>,
    /// Folder with folders of real embeddings: `captions.npy` and `images.npy` in half precision, and
    /// `captions.txt` [default: the starter's, of which there are 500]
    #[arg(long, value_name = "DIR")]
    embeddings: Option<PathBuf>,
    /// Folder of the repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Measure only these banks: captions:N, pairs:N or real:FOLDER
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    banks: Vec<String>,
    /// Candidates to open an index for, which decides how far a graph is searched; at most 128 of them,
    /// as the daemon does, are asked for
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "128")]
    candidates: Vec<usize>,
    /// Contestants: exhaustive, graph, usearch-i8, usearch-f16
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "exhaustive,graph,usearch-i8"
    )]
    contestants: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct BuildReport {
    seconds: f64,
    peak_bytes: u64,
    file_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct SearchReport {
    open_ms: f64,
    anon_bytes: u64,
    p50_ms: f64,
    p99_ms: f64,
    how: String,
    found: Vec<Vec<String>>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut banks = args.banks.clone();
    if banks.is_empty() {
        let sizes = args.entries.iter();
        banks = sizes.flat_map(|n| ["captions", "pairs"].map(|it| format!("{it}:{n}"))).collect();
    }
    println!(
        "Embeddings are {}, and synthetic ones like them: see source.rs. Times are CPU time of one thread.\n",
        args.embeddings.as_ref().map_or("the starter's".to_owned(), |it| it.display().to_string())
    );
    println!(
        "| bank | contestant | size | build | builder's peak | open | RssAnon | recall@{K} | p50 | p99 |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    let dir = tempfile::tempdir()?;
    let (index, queries_file) = (dir.path().join("index"), dir.path().join("queries"));
    for name in &banks {
        let bank = Bank::open(&args.root, args.embeddings.as_deref(), name)?;
        let queries = bank.queries()?;
        let values = queries.iter().flat_map(Embedding::as_slice);
        fs::write(&queries_file, values.flat_map(|it| it.to_le_bytes()).collect::<Vec<_>>())?;
        let exact = bank.exact(&queries)?;
        for contestant in &args.contestants {
            let mut build = step(args)?;
            build.arg("build").arg(name).arg(&index).arg(contestant);
            let built: BuildReport = report(&mut build)?;
            for n in &args.candidates {
                let mut search = step(args)?;
                search.arg("search").arg(&index).arg(&queries_file).arg(contestant);
                let searched: SearchReport = report(search.arg(n.to_string()))?;
                let recall = recall(&exact, &searched.found)?;
                println!(
                    "| {name} | {} | {:.1} MB | {:.0} s | {:.0} MB | {:.0} ms | {:.1} MB | {recall:.4} | {:.2} ms | {:.2} ms |",
                    searched.how,
                    built.file_bytes as f64 / 1e6,
                    built.seconds,
                    built.peak_bytes as f64 / 1e6,
                    searched.open_ms,
                    searched.anon_bytes as f64 / 1e6,
                    searched.p50_ms,
                    searched.p99_ms,
                );
            }
        }
    }
    Ok(())
}

fn step(args: &Args) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--root").arg(&args.root);
    if let Some(folder) = &args.embeddings {
        command.arg("--embeddings").arg(folder);
    }
    Ok(command)
}

fn report<T: for<'a> Deserialize<'a>>(command: &mut Command) -> anyhow::Result<T> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn recall(exact: &[Vec<String>], found: &[Vec<String>]) -> anyhow::Result<f64> {
    ensure!(exact.len() == found.len(), "{} answers to {} queries", found.len(), exact.len());
    let pairs = exact.iter().zip(found);
    let n: usize = pairs.map(|(a, b)| a.iter().filter(|it| b.contains(it)).count()).sum();
    Ok(n as f64 / exact.iter().map(Vec::len).sum::<usize>() as f64)
}

pub(crate) fn build(
    args: &Args,
    bank: &str,
    output: &Path,
    contestant: &str,
) -> anyhow::Result<()> {
    let bank = Bank::open(&args.root, args.embeddings.as_deref(), bank)?;
    let method = match contestant {
        "exhaustive" => SearchMethod::Exhaustive,
        "graph" => SearchMethod::Graph,
        _ => {
            // Entries are made as they are put in; what that takes is found by making them again.
            let start = ProcessTime::now();
            let index = peer::build(&bank, contestant)?;
            let with_making = start.elapsed();
            let peak_bytes = status("VmHWM:")?;
            let start = ProcessTime::now();
            for idx in 0..bank.n() {
                std::hint::black_box(bank.entry(idx)?);
            }
            let seconds = with_making.saturating_sub(start.elapsed()).as_secs_f64();
            peer::save(&index, &bank, output)?;
            let file_bytes = fs::metadata(output)?.len();
            println!(
                "{}",
                serde_json::to_string(&BuildReport { seconds, peak_bytes, file_bytes })?
            );
            return Ok(());
        }
    };
    let mut builder = IndexBuilder::new("bench", bank.dimension())?.search_by(method);
    for idx in 0..bank.n() {
        let (text, caption, key) = bank.entry(idx)?;
        let key = key.map(Embedding::normalize).transpose()?;
        builder.push(&text, &Embedding::normalize(caption)?, key.as_ref())?;
    }
    // Making entries is no part of building.
    let start = ProcessTime::now();
    let name = &bank.name;
    builder.write(output, &|done, all| {
        if done.is_multiple_of(100_000) && done != all {
            eprintln!("{name}: {done} of {all}, {:.0?}", start.elapsed());
        }
    })?;
    let report = BuildReport {
        seconds: start.elapsed().as_secs_f64(),
        peak_bytes: status("VmHWM:")?,
        file_bytes: fs::metadata(output)?.len(),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

pub(crate) fn search(
    index: &Path,
    queries: &Path,
    contestant: &str,
    n: usize,
) -> anyhow::Result<()> {
    let report = if contestant.starts_with("usearch") {
        let start = Instant::now();
        let peer = Peer::open(index, contestant, n)?;
        let open_ms = start.elapsed().as_secs_f64() * 1e3;
        let queries = read_queries(queries, peer.dimension())?;
        let search = |query: &Embedding| peer.search(query, n.min(MAX_ASKED));
        let texts = |keys: Vec<u64>| peer.texts(&keys[..K.min(keys.len())]);
        measure(open_ms, peer.how.clone(), &queries, search, texts)?
    } else {
        let start = Instant::now();
        let index = Index::open_for(index, n)?;
        let open_ms = start.elapsed().as_secs_f64() * 1e3;
        let info = index.info();
        let how = match info.method {
            SearchMethod::Exhaustive => format!("exhaustive, {}", info.kernel),
            SearchMethod::Graph => format!("graph, ef {}, {}", info.ef_search, info.kernel),
        };
        let queries = read_queries(queries, info.dimension)?;
        let search = |query: &Embedding| Ok(index.search(query, n.min(MAX_ASKED))?);
        let texts = |it: Vec<Candidate>| Ok(it.into_iter().take(K).map(|it| it.text).collect());
        measure(open_ms, how, &queries, search, texts)?
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn read_queries(path: &Path, dimension: usize) -> anyhow::Result<Vec<Embedding>> {
    let values = fs::read(path)?;
    let row = |row: &[u8]| -> anyhow::Result<Embedding> {
        let values = row.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it));
        Ok(Embedding::from_unit(values.collect())?)
    };
    values.chunks_exact(dimension * 4).map(row).collect()
}

/// Searches for every query, again with a clock, and once more for what is found. Time is the thread's own, so that what else the
/// machine does is left out, as far as it does not use the same caches.
fn measure<T>(
    open_ms: f64,
    how: String,
    queries: &[Embedding],
    search: impl Fn(&Embedding) -> anyhow::Result<T>,
    texts: impl Fn(T) -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<SearchReport> {
    for query in queries {
        search(query)?;
    }
    let mut times: Vec<f64> = Vec::new();
    for query in queries.iter().cycle().take(SEARCHES) {
        let start = ThreadTime::now();
        let result = search(query)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        drop(result);
    }
    let anon_bytes = status("RssAnon:")?;
    let found = queries.iter().map(|it| texts(search(it)?));
    let found = found.collect::<anyhow::Result<_>>()?;
    times.sort_by(f64::total_cmp);
    let (p50_ms, p99_ms) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    Ok(SearchReport { open_ms, anon_bytes, p50_ms, p99_ms, how, found })
}

/// A figure of this process, in bytes, as the system counts it.
fn status(name: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|it| it.strip_prefix(name)).context("no such figure")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
