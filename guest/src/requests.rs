//! What the host asks for, each in a thread of its own, because each may block in a sick kernel.

use std::fs::File;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use hangproof_wire::{Report, Request};

use crate::beat::Clocks;
use crate::cgroup::{self, Hierarchy};
use crate::clock::uptime_ms;
use crate::fault::Fault;
use crate::look;
use crate::outbox::Outbox;
use crate::port;
use crate::threads::spawn;

/// Most requests under way: more than this are refused, so that a host can't exhaust the guest with requests that never return.
const UNDER_WAY: usize = 8;

/// Starts the thread that listens to the host. Counters are refused until `hierarchy` is known.
pub fn start(port: File, outbox: Outbox, clocks: Arc<Clocks>, hierarchy: Arc<OnceLock<Hierarchy>>) -> Result<(), Fault> {
    let under_way = Arc::new(AtomicUsize::new(0));
    spawn("requests", move || {
        port::read_lines(port, |line| {
            // The host speaks through Refused only of what has a number; other rubbish is the host's own mistake and is skipped.
            let Ok(request) = serde_json::from_slice::<Request>(line) else { return };
            match request {
                // It wakes a thread and waits for nobody.
                Request::Probe => clocks.ask(),
                other => accept(other, &outbox, &hierarchy, &under_way),
            }
        })
    })
}

fn accept(request: Request, outbox: &Outbox, hierarchy: &Arc<OnceLock<Hierarchy>>, under_way: &Arc<AtomicUsize>) {
    let id = id(&request);
    let refuse = |error: String| outbox.send(&Report::Refused { id, error });
    if under_way.fetch_add(1, SeqCst) >= UNDER_WAY {
        under_way.fetch_sub(1, SeqCst);
        return refuse(format!("{UNDER_WAY} earlier requests are still under way"));
    }
    let (answering, hierarchy, counter) = (outbox.clone(), Arc::clone(hierarchy), Arc::clone(under_way));
    let started = spawn("request", move || {
        match answer(&request, hierarchy.get().copied()) {
            Ok(Some(report)) => answering.send(&report),
            Ok(None) => {}
            Err(error) => answering.send(&Report::Refused { id, error }),
        }
        counter.fetch_sub(1, SeqCst);
    });
    if let Err(fault) = started {
        under_way.fetch_sub(1, SeqCst);
        refuse(fault.to_string());
    }
}

/// The request's number; one that isn't answered has none and counts as 0.
fn id(request: &Request) -> u64 {
    match request {
        Request::Look { id } | Request::Counters { id } | Request::Log { id } => *id,
        Request::Probe | Request::Sysrq { .. } => 0,
    }
}

fn answer(request: &Request, hierarchy: Option<Hierarchy>) -> Result<Option<Report>, String> {
    match request {
        Request::Look { id } => look::take(*id, hierarchy).map(|look| Some(Report::Look(look))).map_err(|fault| fault.to_string()),
        Request::Counters { id } => {
            let hierarchy = hierarchy.ok_or("memory cgroups are not mounted yet: wait for the ready report")?;
            let cgroups = cgroup::counters(hierarchy).map_err(|fault| fault.to_string())?;
            Ok(Some(Report::Counters { id: *id, cgroups, uptime_ms: uptime_ms() }))
        }
        Request::Log { id } => look::kernel_log().map(|log| Some(Report::Log { id: *id, log })).map_err(|fault| fault.to_string()),
        Request::Probe => Ok(None),
        Request::Sysrq { key } => look::press(*key).map(|()| Some(Report::Pressed { key: *key })).map_err(|fault| fault.to_string()),
    }
}
