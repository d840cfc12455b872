//! The functions of the running stack as processes of this machine: their peak memory, and their end by SIGKILL. No
//! other process is touched.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::ops::Range;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::support::variable;

/// Lists the running processes of this stack's functions whose names have one of these endings.
fn processes(endings: &[&str]) -> Vec<String> {
    let endpoint = format!("AWS_ENDPOINT_URL={}", variable("AWS_ENDPOINT_URL"));
    let name = format!("AWS_LAMBDA_FUNCTION_NAME={}-", variable("STACK_NAME"));
    let is_wanted = |pid: &String| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        let mut function = environment.split('\0').filter_map(|entry| entry.strip_prefix(&name));
        environment.split('\0').any(|entry| entry == endpoint)
            && function.any(|function| endings.iter().any(|ending| function.ends_with(ending)))
    };
    let processes = std::fs::read_dir("/proc").expect("a Linux machine").filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())).filter(is_wanted).collect()
}

/// Kills a random one of them after each of `times` pauses of a random length; returns how many were killed.
pub(crate) async fn kill(endings: &[&str], times: usize, pauses: Range<Duration>) -> usize {
    let mut killed = 0;
    for _ in 0..times {
        tokio::time::sleep(rand::rng().random_range(pauses.clone())).await;
        if let Some(pid) = processes(endings).choose(&mut rand::rng()) {
            let kill = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
            killed += usize::from(kill.expect("kill is there").success());
        }
    }
    killed
}

/// Returns the peak memory in MiB of the processes of this function that run now: the highest of them. None: none runs.
pub(crate) fn peak_memory(function: &str) -> Option<u64> {
    let peak = |pid: String| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
    };
    processes(&[function]).into_iter().filter_map(peak).max()
}
