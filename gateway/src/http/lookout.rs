//! Looks after the connections of one front thread: one that asks for nothing goes, one whose head does
//! not end in time is told so, and all are told when the gateway stops.
//!
//! One look at all of them now and then, instead of a timer and a listener for each: a request that is
//! answered in time pays nothing for it.

use super::caller::Caller;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Looks while one head may last.
const LOOKS: u32 = 4;

/// What a connection is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The gateway stops.
    Stop,
    /// Nothing was asked for so long that it goes.
    Idle,
    /// A head has begun, and did not end in time.
    Late,
}

/// See the module.
pub(super) struct Lookout {
    patience: Duration,
    stopping: Cell<bool>,
    connections: RefCell<Slab<Rc<Connection>>>,
}

/// One connection, as the lookout sees it.
struct Connection {
    caller: Arc<Caller>,
    order: Cell<Option<Order>>,
    waker: RefCell<Option<Waker>>,
    seen: Cell<Seen>,
}

/// What was seen of a connection so far.
#[derive(Clone, Copy)]
struct Seen {
    requests: u64,
    /// Since when it is quiet, and since when a head is on its way.
    quiet: Instant,
    head: Option<Instant>,
}

/// A connection that is looked after, until this is dropped.
pub(super) struct Watched {
    lookout: Rc<Lookout>,
    connection: Rc<Connection>,
    key: usize,
}

impl Lookout {
    /// Of connections that may take so long over a head, or over asking for nothing.
    pub(super) fn new(patience: Duration) -> Rc<Self> {
        Rc::new(Self {
            patience,
            stopping: Cell::new(false),
            connections: RefCell::default(),
        })
    }

    /// When it wants to [`look`](Self::look).
    pub(super) fn ticks(&self) -> Interval {
        let every = (self.patience / LOOKS).max(Duration::from_millis(1));
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// Looks after one more.
    pub(super) fn watch(self: &Rc<Self>, caller: &Arc<Caller>) -> Watched {
        let connection = Rc::new(Connection {
            caller: Arc::clone(caller),
            order: Cell::new(self.stopping.get().then_some(Order::Stop)),
            waker: RefCell::default(),
            seen: Cell::new(Seen {
                requests: 0,
                quiet: Instant::now(),
                head: None,
            }),
        });
        let key = self.connections.borrow_mut().insert(Rc::clone(&connection));
        Watched {
            lookout: Rc::clone(self),
            connection,
            key,
        }
    }

    /// Looks at every connection.
    pub(super) fn look(&self) {
        let now = Instant::now();
        for (_, connection) in self.connections.borrow().iter() {
            if let Some(order) = connection.judge(now, self.patience) {
                connection.tell(order);
            }
        }
    }

    /// Tells every connection, and those to come, that the gateway stops.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        for (_, connection) in self.connections.borrow().iter() {
            connection.tell(Order::Stop);
        }
    }
}

impl Connection {
    fn judge(&self, now: Instant, patience: Duration) -> Option<Order> {
        let caller = &self.caller;
        let (requests, took) = (caller.requests(), caller.took());
        let mut seen = self.seen.get();
        let mut order = None;
        if caller.is_busy() || took || requests != seen.requests {
            seen = Seen {
                requests,
                quiet: now,
                head: None,
            };
        } else if caller.has_begun() {
            let since = *seen.head.get_or_insert(now);
            order = (now - since >= patience).then_some(Order::Late);
        } else {
            seen.head = None;
            order = (now - seen.quiet >= patience).then_some(Order::Idle);
        }
        self.seen.set(seen);
        order
    }

    fn tell(&self, order: Order) {
        if self.order.get() != Some(Order::Stop) {
            self.order.set(Some(order));
        }
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Watched {
    /// The order that there is, if it still holds: what it was given for may have come meanwhile.
    fn order(&self) -> Option<Order> {
        let order = self.connection.order.take()?;
        let holds = |order| {
            let (now, patience) = (Instant::now(), self.lookout.patience);
            self.connection.judge(now, patience) == Some(order)
        };
        (order == Order::Stop || holds(order)).then_some(order)
    }

    /// Drives a connection until it has ended, or there is an order.
    pub(super) async fn drive<F: Future + Unpin>(
        &self,
        served: &mut F,
    ) -> Result<F::Output, Order> {
        poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut *served).poll(cx) {
                return Poll::Ready(Ok(ended));
            }
            if let Some(order) = self.order() {
                return Poll::Ready(Err(order));
            }
            let mut waker = self.connection.waker.borrow_mut();
            if !waker
                .as_ref()
                .is_some_and(|known| known.will_wake(cx.waker()))
            {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.lookout.connections.borrow_mut().remove(self.key);
    }
}
