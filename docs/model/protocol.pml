/*
 * Who may take what, and when: claims, leases, retirement, API deletes, crash, index loss.
 *
 * One layer blob B, linked from two repositories (L0, L1); a manifest M in repository 0 whose only child is that
 * layer. Time is unbounded: every age is a countdown that `clock` lowers, so that a process may stall for longer than
 * any grace between any two of its steps.
 *
 * A d_step is one transaction of the index (BEGIN IMMEDIATE) together with the rename made inside it; everything else
 * interleaves. Each -DX_... takes one law away; README.md says what then fails.
 *
 * -DCRASH     the server is killed once, at any step; a sweeper may be killed between rename and commit
 * -DLOSS      the index, or its newest row, is lost and rebuilt beside all traffic
 * -DFILE_DATES  with LOSS: what is adopted counts as used when its file was written, and a hold is set first
 * -DUNREAD    with LOSS: the rebuild cannot read repository 0, and says so
 */
#define GRACE 1                 /* ticks that a promise holds */
#define RES   1                 /* ticks for which a touch may stay in memory */
#ifdef X_CUTOFF
#define SLACK GRACE             /* cutoff = now - grace */
#else
#define SLACK (GRACE+RES)       /* cutoff = now - grace - resolution */
#endif
#ifndef OPS
#define OPS 2                   /* requests of each client */
#endif
#ifndef CLIENTS
#define CLIENTS 2
#endif

#define B  0
#define L0 1
#define L1 2
#define M  3
#define N  4
#define L(r)   (1+(r))
#define LINK(o) (o == L0 || o == L1)

bool row[N], file[N];           /* index, disk */
byte age[N];                    /* 0: older than the cutoff */
byte seen[N];                   /* >0: server memory: persisted less than RES ago */
byte read;                      /* >0: the same of the bytes of L0, by its own row or by that of the manifest */
byte keep[2];                   /* >0: L(r) and B are promised */
byte keepM;                     /* >0: the name M is promised */
byte left[2];                   /* >0: what is left of the lease under which a client's request runs */
bool due[2];                    /* the promise of L0 has stood since the client's request began */
bool gate = 1;                  /* the index is known to be complete */
bool unread;                    /* but for repository 0, which could not be read */
byte hold;                      /* >0: nothing is retired */
bool kill[2];
byte done, crashed, lost;

#define MAX(a,b) (a > b -> a : b)
#define REFERRED(o) ((o == B && (row[L0] || row[L1])) || (o == L0 && row[M]))
#ifdef X_UNREAD_BLOBS
#define SPARED(o)   (unread && (o == L0 || o == M))
#else
#define SPARED(o)   (unread && o != L1)         /* a blob is held by links of any repository */
#endif
#define LEFT(o)     (age[o] > SLACK-RES -> age[o]-SLACK+RES : 0)        /* how long memory may answer for a row */
#define DEAD(o)     (gate && !hold && !SPARED(o) && row[o] && age[o] == 0 && !REFERRED(o))
#define TARGETS(o)  (o == B || (LINK(o) && file[B]) || (o == M && file[L0] && file[B]))

inline unlink(o) {              /* S1, S2: asked whenever a file goes */
	if
	:: file[o] && o == B  -> assert(!keep[0] && !keep[1]); assert(!file[M])
	:: file[o] && o == L0 -> assert(!keep[0]); assert(!file[M])
	:: file[o] && o == L1 -> assert(!keep[1])
	:: file[o] && o == M  -> assert(!keepM)
	:: else
	fi;
	file[o] = 0
}

inline stamp(o) { row[o] = 1; age[o] = SLACK+1; seen[o] = RES+1 }

/* lease (relaxed), then look; unknown but there: adopt, looking again inside the transaction */
inline see(o) {
#ifdef X_LOOK_FIRST
	ok = file[o];
	d_step { if :: ok -> stamp(o) :: else fi }
#else
	d_step {
		if
		:: seen[o] -> found = 1
		:: !seen[o] && row[o] -> stamp(o); found = 1
		:: else -> found = 0
		fi
	};
	ok = file[o];
	if
	:: ok && !found -> d_step { ok = file[o]; if :: ok -> stamp(o) :: else fi; found = 0 }
	:: else -> found = 0
	fi
#endif
}

/* the bytes of L0: where a manifest holds the link, its row is written, unless it was within the resolution */
inline seeBytes() {
	d_step {
		if
		:: read -> found = 1
		:: !read && row[M] && file[M] && row[L0] ->
			if :: LEFT(M) :: else -> age[M] = SLACK+1 fi;
			read = LEFT(M); found = 1
		:: !read && !(row[M] && file[M]) && row[L0] -> stamp(L0); read = RES+1; found = 1
		:: else -> found = 0
		fi
	};
	ok = file[L0];
	if
	:: ok && !found -> d_step { ok = file[L0]; if :: ok -> stamp(L0) :: else fi; found = 0 }
	:: else -> found = 0
	fi
}

/* the row (a manifest's with its references) before the file */
inline claim(o) {
#ifndef X_CLAIM_AFTER
	d_step {
#ifdef X_RELAXED_CLAIM
		if :: seen[o] :: else -> stamp(o) fi
#else
		stamp(o)
#endif
	}
#else
	skip
#endif
}

/* holding the write lock: the claim stands (or is renewed), what the name points at is there, rename */
inline place(o) {
#if defined(X_CLAIM_AFTER)
	d_step { if :: TARGETS(o) -> ok = 1; file[o] = 1 :: else -> ok = 0 fi };
	d_step { if :: ok -> stamp(o) :: else fi }
#elif defined(X_BLIND_PLACE)
	d_step { ok = TARGETS(o) };
	d_step { if :: ok -> file[o] = 1 :: else fi }
#else
	d_step {
		if
#ifndef X_NO_LOOK
		:: !TARGETS(o) -> ok = 0
#endif
		:: else -> ok = 1; file[o] = 1;
#ifndef X_RELAXED_CLAIM
			if :: row[o] :: else -> stamp(o) fi
#endif
		fi
	}
#endif
}

/* "it exists": counts from the lease of the request, not from its answer */
inline promise(r) {
	d_step {
		keep[r] = MAX(keep[r], left[id]);
		assert(!keep[r] || (file[L(r)] && file[B]))           /* S1 */
	}
}

inline fresh() { left[id] = GRACE+1 }

inline putLink(r) {
	fresh();
	claim(L(r));
	place(L(r));
	if :: ok -> promise(r) :: else fi
}

#ifdef X_DELETE_UNGATED
#define MAYDELETE true
#else
#define MAYDELETE (gate && !(unread && r == 0)) /* a manifest that was not read yet may need the link */
#endif

proctype client(byte id) {
	byte n = 0, r = 0; bool ok, found;
again:
	{
	do
	:: n == OPS -> break
	:: d_step { n < OPS -> n++; ok = 0; found = 0; left[id] = 0; due[id] = 0; r = 0 };
		if
		:: true :: d_step { true -> r = 1 }
		fi;
		if
		:: fresh();                                           /* HEAD blob */
#ifdef X_LINK_UNLEASED
			ok = file[L(r)];
#else
			see(L(r));
#endif
			if :: ok -> see(B) :: else fi;
			if :: ok -> promise(r) :: else fi

		:: r == 0 -> fresh();                                 /* GET blob */
			seeBytes();
			if :: ok -> ok = file[B] :: else fi;
			if :: ok -> promise(0) :: else fi

		:: see(B);                                            /* upload commit: no Move when B exists */
			if :: !ok -> claim(B); place(B) :: else fi;
			if :: ok -> putLink(r) :: else fi

		:: see(L(1-r));                                       /* mount from the other repository */
			if :: ok -> see(B) :: else fi;
			if :: ok -> putLink(r) :: else fi

		:: r == 0 -> due[id] = (keep[0] > 0);                 /* PUT manifest: validate, revision link */
			see(L0);
			if :: ok -> see(B) :: else fi;
			d_step { assert(ok || !due[id] || !keep[0]) };    /* S1: never refused for what was promised */
			if
			:: ok ->
				fresh();
				claim(M);
				place(M);
				if
				:: ok -> d_step {
						if
						:: file[M] -> assert(file[L0] && file[B]); keepM = MAX(keepM, left[id])  /* S2 */
						:: else
						fi };
					promise(0)
				:: else
				fi
			:: else
			fi

		:: r == 0 -> fresh();                                 /* GET manifest: with everything it refers to */
			see(M);
			if
			:: ok -> d_step { if :: file[M] -> keepM = MAX(keepM, left[id]) :: else fi };
				promise(0)
			:: else
			fi

#ifndef NO_DELETE
		:: r == 0 -> d_step {                                 /* API DELETE manifest: the name, at once */
				if
				:: file[M] ->
					file[M] = 0; row[M] = 0; keepM = 0;
#ifndef X_NO_INHERIT
					age[L0] = MAX(age[L0], age[M])
#endif
				:: else
				fi }

		:: d_step {                                           /* API DELETE blob: the link, if no manifest needs it */
				if
#ifdef X_FREE_DELETE
				:: file[L(r)]
#else
				:: file[L(r)] && !(r == 0 && row[M]) && MAYDELETE
#endif
					-> keep[r] = 0; left[0] = 0; left[1] = 0; due[0] = 0; due[1] = 0;   /* the user took it back */
					unlink(L(r)); row[L(r)] = 0
				:: else
				fi }
#endif
		fi
	od
	} unless { kill[id] };
	if
	:: d_step { kill[id] -> kill[id] = 0 }; goto again
	:: else
	fi;
	d_step { left[id] = 0; due[id] = 0; ok = 0; found = 0; r = 0; done++ }
}

/* the server's sweeper and a gc in another process take the same steps, in any order, for ever */
#if defined(X_UNCONDITIONAL)
#define RETIRE(o) :: DEAD(o) -> d_step { unlink(o); row[o] = 0 }
#elif defined(X_RENAME_AFTER)
#define RETIRE(o) :: d_step { DEAD(o) -> row[o] = 0 }; d_step { unlink(o) }
#elif defined(CRASH)            /* also killed between rename and commit: the row comes back */
#define RETIRE(o) :: d_step { DEAD(o) -> inherit(o); unlink(o); row[o] = 0 } \
                  :: d_step { DEAD(o) && !crashed -> crashed = 1; unlink(o) }
#else
#define RETIRE(o) :: d_step { DEAD(o) -> inherit(o); unlink(o); row[o] = 0 }
#endif
inline inherit(o) { if :: o == M -> age[L0] = MAX(age[L0], age[M]) :: else fi }

proctype sweeper() {
	do
	RETIRE(B)
	RETIRE(L0)
	RETIRE(L1)
	RETIRE(M)
	od
}

inline down(x) { if :: x -> x-- :: else fi }

proctype clock() {
	do
	:: d_step {
		down(age[0]);  down(age[1]);  down(age[2]);  down(age[3]);
		down(seen[0]); down(seen[1]); down(seen[2]); down(seen[3]);
		down(read); down(keep[0]); down(keep[1]); down(keepM); down(left[0]); down(left[1]); down(hold);
		if :: !keep[0] -> due[0] = 0; due[1] = 0 :: else fi }
	od
}

#ifdef CRASH                    /* kill -9 of the server, once, at any step of its requests */
proctype crash() {
	d_step {
		seen[0] = 0; seen[1] = 0; seen[2] = 0; seen[3] = 0; read = 0;
		kill[0] = (done < CLIENTS); kill[1] = (done < CLIENTS) }
}
#endif

#ifdef LOSS
#if defined(FILE_DATES)
#define ADOPTED 0               /* adopted as used when the file was written */
#else
#define ADOPTED (SLACK+1)       /* adopted as used now */
#endif
#if defined(X_SHORT_HOLD)
#define HOLD GRACE
#elif defined(FILE_DATES) && !defined(X_NO_HOLD)
#define HOLD SLACK              /* what was promised a moment before the loss, or from memory after it */
#else
#define HOLD 0
#endif
inline adopt(o) { d_step { if :: file[o] && !row[o] -> row[o] = 1; age[o] = ADOPTED :: else fi } }
proctype rebuild() {            /* the whole index goes, or power takes the newest row (the manifest's) */
	if
	:: d_step { true -> row[B] = 0; row[L0] = 0; row[L1] = 0; row[M] = 0; lost = 1; gate = 0 }
	:: d_step { true -> row[M] = 0; lost = 1; gate = 0 }
	fi;
#ifdef X_NO_GATE
	gate = 1;
#endif
	hold = HOLD;                                    /* before the first row is adopted */
#ifdef UNREAD
	adopt(B); adopt(L1);
	d_step { gate = 1; unread = 1 }                 /* `lost` stays: not every file has its row */
#else
	adopt(B); adopt(L0); adopt(L1); adopt(M);       /* the worst order; all other traffic goes on */
	d_step { gate = 1; lost = 0 }
#endif
}
#endif

proctype rest() {               /* S3: at rest every file has its row */
	d_step {
		done == CLIENTS && !lost ->
		assert(!file[B] || row[B]); assert(!file[L0] || row[L0]);
		assert(!file[L1] || row[L1]); assert(!file[M] || row[M])
	}
}

init {
	atomic {                    /* an old store: empty, an orphan blob, a layer, or a whole image */
		if
		:: skip
		:: row[B] = 1; file[B] = 1
		:: row[B] = 1; file[B] = 1; row[L0] = 1; file[L0] = 1
		:: row[B] = 1; file[B] = 1; row[L0] = 1; file[L0] = 1; row[M] = 1; file[M] = 1
		fi;
		run client(0);
#if CLIENTS > 1
		run client(1);
#endif
		run sweeper(); run sweeper(); run clock(); run rest();
#ifdef CRASH
		run crash();
#endif
#ifdef LOSS
		run rebuild();
#endif
	}
}
