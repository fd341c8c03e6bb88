/*
 * Effective last use is stored: a use of a manifest is written, in the same transaction, to all that lives by it.
 *
 * One repository: a tag T on an index I over a manifest C with a layer link K, and a referrer S of I. The ttl of
 * names is longer than the grace. A plan is made in one step and executed in a later one, as Victim{key,
 * unusedSince}: `used` says whether the row was used after the plan's time. Time is as in protocol.pml, which covers
 * what this model leaves out: here claim, look and place are one step, and memory may answer a lease whenever the row
 * is young enough. README.md says what each -DX_... breaks. With -DBUDGET the planner names any row at any time, as
 * the budget of a full disk would.
 */
#define GRACE 1
#define RES   1
#ifdef BUDGET
#define TTL   GRACE
#else
#define TTL   2
#endif
#ifndef OPS
#define OPS 2                   /* requests of each client */
#endif

#define NAME    (TTL+RES+1)     /* age of a name that was used now; 0: unused for the ttl */
#define CONTENT (GRACE+RES+1)   /* age of a link that was used now; 0: unused for the grace */
#define LATER   (TTL-GRACE)
#define AS_LINK(a) (a > LATER -> a-LATER : 0)

#define T 0
#define I 1
#define C 2
#define S 3
#define K 4
#define NONE 5

bool there[5];                  /* row and file */
byte age[5];
byte keep[5];                   /* >0: a client counts on it: for the ttl on names, for the grace on K */
byte left[2];                   /* >0: what is left of the lease under which a client's request runs */
byte victim[2] = NONE;          /* of each sweeper */
bool used[2];                   /* its victim was used since the plan */

#define MAX(a,b) (a > b -> a : b)
#define FULL(o)  (o == K -> CONTENT : NAME)
#define OWNED(o) ((o == I && there[T]) || ((o == C || o == S) && there[I]) || (o == K && there[C]))
#define YOUNG(o) (age[o] >= FULL(o)-RES)
#define OWED(o)  (age[o] > (o == K -> 0 : LATER))       /* grace + resolution have not passed */

inline touch(o) {               /* one row */
	age[o] = FULL(o);
	used[0] = used[0] || victim[0] == o;
	used[1] = used[1] || victim[1] == o
}

inline use(o) {                 /* a row and all that lives by it */
	touch(o);
	if
	:: o == T || o == I ->
		touch(I);
#ifndef X_TAG_ALONE
		if :: there[T] -> touch(T) :: else fi;
#endif
#ifndef X_PARTS_ALONE
		touch(C);
#endif
#ifndef X_REFERRER_ALONE
		if :: there[S] -> touch(S) :: else fi
#endif
	:: else
	fi
}

/* what a client was told is there, with all that it refers to: for as long as the lease of its request has left */
inline count(o) {
	keep[o] = MAX(keep[o], (o == K -> AS_LINK(left[id]) : left[id]));
	if
	:: o == T || o == I ->
		keep[I] = MAX(keep[I], left[id]); keep[C] = MAX(keep[C], left[id]); keep[K] = MAX(keep[K], AS_LINK(left[id]));
		if :: there[T] -> keep[T] = MAX(keep[T], left[id]) :: else fi;
		if :: there[S] -> keep[S] = MAX(keep[S], left[id]) :: else fi
	:: o == C -> keep[K] = MAX(keep[K], AS_LINK(left[id]))
	:: else
	fi
}

inline fresh() { left[id] = TTL+1 }
inline store(o) { there[o] = 1; use(o); fresh(); count(o) }

inline lease(o) {               /* from memory or written, then look */
	if
	:: d_step { there[o] && YOUNG(o) -> fresh() }
	:: d_step { there[o] -> use(o); fresh() }
	fi;
	if
	:: d_step { there[o] -> count(o); left[id] = 0 }
	:: d_step { !there[o] -> left[id] = 0 }
	fi
}

/* a name is removed: what only the link's row knows of inherits; manifests are as young already */
inline leave(o) {
	there[o] = 0; age[o] = 0; keep[o] = 0;
#ifndef X_NO_INHERIT
	if :: o == C -> age[K] = MAX(age[K], AS_LINK(c)) :: else fi
#endif
}

proctype client(byte id) {
	byte n = 0, c = 0;
	do
	:: n == OPS -> break
	:: n < OPS -> n++;
		if
		:: d_step { true -> store(K); left[id] = 0 }
		:: d_step { there[K] -> store(C); left[id] = 0 }
		:: d_step { there[C] -> store(I); left[id] = 0 }
		:: d_step { there[I] -> store(T); left[id] = 0 }
		:: d_step { true -> store(S); left[id] = 0 }                          /* a referrer needs no subject */
		:: d_step { !there[S] && !left[0] && !left[1] ->  /* adopted with an old date (beside leases: protocol.pml) */
			there[S] = 1;
#ifndef X_ADOPTED_ALONE
			if :: there[I] -> age[S] = age[I] :: else fi;   /* it takes the last use of what it lives by */
#endif
			}
		:: lease(T)
		:: lease(I)
		:: lease(C)
		:: lease(S)
		:: lease(K)
		:: d_step { there[T] -> leave(T) }                      /* DELETE of the tag, or a retag elsewhere */
		:: d_step { there[I] -> leave(T); leave(I) }            /* DELETE of a manifest, with its tags */
		:: d_step { there[C] && !there[I] -> c = age[C]; leave(C); c = 0 }
		:: d_step { there[S] -> leave(S) }
		:: d_step { there[K] && !there[C] -> leave(K) }
		:: true
		fi
	od;
	n = 0
}

#define PLAN(o)   :: there[o] && PLANNED(o) -> victim[id] = o
#ifdef BUDGET
#define PLANNED(o) true
#else
#define PLANNED(o) age[o] == 0
#endif
#ifdef X_STALE_PLAN
#define SINCE     true
#else
#define SINCE     !used[id]
#endif
#ifdef X_NO_FLOOR
#define FLOOR(o)  true
#else
#define FLOOR(o)  !OWED(o)
#endif
#ifdef X_FREE_PARTS
#define FREE(o)   true
#else
#define FREE(o)   !OWNED(o)
#endif
#define RETIRE(o) :: d_step { victim[id] == o && there[o] && SINCE && FLOOR(o) && FREE(o) -> \
			assert(!keep[o]);               /* S1 */ \
			assert(!OWNED(o));              /* S2 */ \
			c = age[o]; leave(o); victim[id] = NONE; used[id] = 0; c = 0 }

proctype sweeper(byte id) {     /* the server's, and a gc in another process */
	byte c = 0;
	do
	:: d_step { victim[id] == NONE -> if PLAN(T) PLAN(I) PLAN(C) PLAN(S) PLAN(K) :: else fi }
	RETIRE(T)
	RETIRE(I)
	RETIRE(C)
	RETIRE(S)
	RETIRE(K)
	:: d_step { victim[id] != NONE -> victim[id] = NONE; used[id] = 0 }
	od
}

inline down(x) { if :: x -> x-- :: else fi }

proctype clock() {
	do
	:: d_step {
		down(age[0]); down(age[1]); down(age[2]); down(age[3]); down(age[4]);
		down(keep[0]); down(keep[1]); down(keep[2]); down(keep[3]); down(keep[4]);
		down(left[0]); down(left[1]) }
	od
}

proctype invariant() {          /* S4: no row is older than what keeps it, nor a tag than its manifest */
	d_step {
#ifdef NO_INVARIANT
		false &&
#endif
		((there[T] && age[T] < age[I]) || (there[I] && (age[I] < age[T] || age[C] < age[I])) ||
			(there[I] && there[S] && age[S] < age[I])) -> assert(false)
	}
}

init {
	atomic {
		if
		:: skip
		:: there[K] = 1; there[C] = 1; there[I] = 1; there[T] = 1;
			if :: skip :: there[S] = 1 fi
		fi;
		run client(0); run client(1); run sweeper(0); run sweeper(1); run clock(); run invariant()
	}
}
