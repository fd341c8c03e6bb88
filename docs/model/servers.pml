/*
 * Membership is a table of servers, of which each owes its own grace until its debt is paid.
 *
 * Two servers serve one name X, beside each other or one after the other, each with a long or a short grace; a server
 * may be configured anew while it serves, and may end at any time, cleanly or not. A gc in another process has a
 * short grace of its own: it retires X once that is older than what any row of the table owes. A server that lives
 * beats with each tick; one whose heartbeat is late for longer than its grace is not modelled. Here time counts up:
 * `idle` says for how many ticks the row of X was not used.
 */
#define LONG  2
#define SHORT 1
#define RES   1
#define TOP   (LONG+RES+1)
#ifndef OPS
#define OPS 2                   /* lives of each server */
#endif

bool there = 1;                 /* X: row and file */
byte idle = TOP;
byte seen[2];                   /* >0: memory of a server: written less than RES ago */
byte keep;                      /* >0: X is promised */
byte lease[2];                  /* >0: what is left of the lease under which a request runs */

bool joined[2];                 /* the server lives and beats */
byte owes[2], left[2];          /* its row: the grace that it promises, and for how long it still owes it */
byte owed[2], paid[2];          /* in its row, too: the larger grace that it promised before, and until when */

#define MAX(a,b) (a > b -> a : b)
#ifdef X_ONE_ROW                /* one row, that of the last server */
#define ROW(i) 0
#else
#define ROW(i) (i)
#endif
#define DEBT(i) MAX((left[i] -> owes[i]+RES : 0), (paid[i] -> owed[i]+RES : 0))
#ifdef X_OWN_GRACE              /* gc goes by its own configuration */
#define FLOOR   (SHORT+RES)
#else
#define FLOOR   MAX(SHORT+RES, MAX(DEBT(0), DEBT(1)))
#endif

inline beat(i) { left[ROW(i)] = owes[ROW(i)]+RES+1 }

inline promise(i, g) {          /* the row of a server, at its start and with a new configuration */
#ifndef X_RELOAD_FORGETS
	if
	:: DEBT(ROW(i)) > g+RES -> owed[ROW(i)] = DEBT(ROW(i))-RES; paid[ROW(i)] = MAX(left[ROW(i)], paid[ROW(i)])
	:: else
	fi;
#endif
	owes[ROW(i)] = g; beat(i)
}

proctype server(byte id) {
	byte n = 0, grace = 0;
	do
	:: n == OPS -> break
	:: n < OPS -> n++;
		if :: grace = LONG :: grace = SHORT fi;
#ifndef X_LATE_ROW
		d_step { true -> promise(id, grace); joined[id] = 1 };
#endif
		do
		:: d_step { there && seen[id] -> lease[id] = grace+1 };         /* GET: from memory, or written; then look */
			if
			:: d_step { there -> keep = MAX(keep, lease[id]); lease[id] = 0 }
			:: d_step { !there -> lease[id] = 0 }
			fi
		:: d_step { there && !seen[id] -> idle = 0; seen[id] = RES+1; lease[id] = grace+1 };
			if
			:: d_step { there -> keep = MAX(keep, lease[id]); lease[id] = 0 }
			:: d_step { !there -> lease[id] = 0 }
			fi
		:: d_step { !there -> there = 1; idle = 0; seen[id] = RES+1; keep = MAX(keep, grace+1) }      /* PUT */
		:: d_step { grace == LONG -> grace = SHORT; promise(id, grace); joined[id] = 1 }      /* a reload */
		:: d_step { !joined[id] -> promise(id, grace); joined[id] = 1 }
		:: break
		od;
		lease[id] = 0;
		d_step { true ->                                                /* the end: memory goes, the row stays */
#ifdef X_LEAVES
			owes[id] = 0; left[id] = 0; owed[id] = 0; paid[id] = 0;
#endif
			joined[id] = 0; seen[id] = 0; grace = 0 }
	od;
	n = 0
}

proctype gc() {
	do
	:: d_step { there && idle > FLOOR -> assert(!keep); there = 0; idle = TOP }     /* S1 */
	od
}

inline down(x) { if :: x -> x-- :: else fi }

proctype clock() {
	do
	:: d_step {
		if :: idle < TOP -> idle++ :: else fi;
		down(seen[0]); down(seen[1]); down(keep); down(lease[0]); down(lease[1]);
		down(left[0]); down(left[1]); down(paid[0]); down(paid[1]);
		if :: !paid[0] -> owed[0] = 0 :: else fi;
		if :: !paid[1] -> owed[1] = 0 :: else fi;
		if :: !left[0] && !joined[0] -> owes[0] = 0 :: else fi;
		if :: !left[1] && !joined[1] -> owes[1] = 0 :: else fi;
		if :: joined[0] -> beat(0) :: else fi;
		if :: joined[1] -> beat(1) :: else fi }
	od
}

init { atomic { run server(0); run server(1); run gc(); run clock() } }
