/*
 * A pin is in a file, which outlives the index, and in a row, which is part of the condition to retire.
 *
 * One old image, which every run would remove; `dcs pin` and `dcs unpin` in processes of their own, beside a server, a
 * gc with an older plan, a client that deletes, and an index that is lost once. Conventions as in protocol.pml.
 *
 * promised: a dcs pin has ended, and no dcs unpin has begun since.
 */
bool image = 1;                 /* on disk, and so in the index */
bool written;                   /* the pin is in the file */
bool broken;                    /* the file cannot be read */
bool row[2], known[2];          /* by index: the pin; the index knows the pins of the file */
byte used;                      /* the index that the server uses */
byte told;                      /* and the one that others are told */
byte lock;                      /* 0: free */
bool promised;
bool lost, crashed, done;

inline take(me) {
#ifdef X_UNLOCKED
	skip
#else
	d_step { lock == 0 -> lock = me }
#endif
}
inline give(me) { d_step { if :: lock == me -> lock = 0 :: else -> skip fi } }

/* brings the rows of an index in line with the file: a start, a gc, a heartbeat */
inline align(x, me) {
	take(me);
#ifdef X_BROKEN_IS_NONE
	d_step { seen = written && !broken; bad = 0 };
#else
	d_step { seen = written; bad = broken };
#endif
	d_step {
		if
		:: bad -> known[x] = 0                                /* the gate is shut */
		:: else -> row[x] = seen; known[x] = 1
		fi };
	give(me);
	d_step { seen = 0; bad = 0 }
}

/*
 * dcs pin and dcs unpin: the file, then the row of the index that others are told of. An index that takes its place is
 * brought in line with the file, under the same lock.
 */
inline edit(to) {
	take(1);
	if
	:: broken                                                 /* it says so, and changes nothing */
	:: else ->
		ok = 1;
#ifdef X_ROW_ALONE
		if :: to -> skip :: else -> written = to fi;
#else
		written = to;
#endif
		if :: !crashed -> crashed = 1; ok = 0; goto out/* kill -9 between file and row */
		:: true
		fi;
		x = told;
		row[x] = to
	fi
}

proctype pinner() {
	byte x; bool ok;
	edit(1);
out:	skip;
	d_step {
		if
#ifdef X_NO_LOOK
		:: ok -> promised = 1; assert(image)                  /* S1: what is pinned is there */
#else
		:: ok && image -> promised = 1
#endif
		:: else
		fi };
	give(1);
	d_step { x = 0; ok = 0; done = 1 }
}

proctype unpinner() {
	byte x; bool ok;
	done == 1;
	if
	:: true
	:: d_step { true -> promised = 0 };
		edit(0);
out:	give(1)
	fi;
	d_step { x = 0; ok = 0 }
}

/* a run of the server, or of a gc beside it: the plan, and later the statement */
#if defined(X_STALE_PLAN)
#define GOES (known[used])
#elif defined(X_UNKNOWN_IS_NONE)
#define GOES (!row[used])
#else
#define GOES (known[used] && !row[used])
#endif
proctype sweeper() {
	do
	:: image && !row[used] ->                                 /* planned */
		d_step { if :: GOES -> image = 0; assert(!promised) :: else fi }    /* S1 */
	od
}

proctype client() {             /* DELETE of the name, at any time */
#ifdef X_FREE_DELETE
	d_step { image -> image = 0; assert(!promised) }
#elif defined(X_DELETE_UNKNOWN)
	d_step { image && !row[used] -> image = 0; assert(!promised) }
#else
	d_step { image && known[used] && !row[used] -> image = 0; assert(!promised) }
#endif
}

/* the server: it starts, may find its index lost, and looks at the file at each heartbeat; so does a gc */
proctype server() {
	bool seen, bad;
	align(used, 2);
	do
	:: !lost ->
#ifdef X_ALIGN_FIRST
		d_step { used = 1; lost = 1 };
		align(1, 2);
		told = 1
#else
		d_step { used = 1; lost = 1 };
		told = 1;
		align(1, 2)
#endif
	:: align(used, 2)
	od
}

proctype damage() {             /* the file becomes unreadable, and an operator mends it */
	broken = 1;
	broken = 0
}

init { atomic { run pinner(); run unpinner(); run sweeper(); run client(); run server(); run damage() } }
