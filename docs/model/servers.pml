/*
 * Membership is a table of servers, of which each owes its own grace until its debt is paid.
 *
 * Two servers serve one name X, beside each other or one after the other, each with a long or a short grace; a server
 * may be configured anew while it serves, and may end at any time, cleanly or not. The table has a row for each grace:
 * a start replaces the rows that owe no more than it does, so a crash loop leaves one. A gc in another process has a
 * grace of its own, zero: it retires X once that is older than what any row of the table owes. A server that lives
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
byte grace[2];                  /* its grace, short or long */
byte left[2];                   /* the row of each grace: for how long its server still owes it */

#define MAX(a,b) (a > b -> a : b)
#define ROW(g)  (g == LONG)
#define DEBT(r) (left[r] -> (r -> LONG : SHORT)+RES : 0)
#ifdef X_OWN_GRACE              /* gc goes by its own configuration */
#define FLOOR   RES
#else
#define FLOOR   MAX(RES, MAX(DEBT(0), DEBT(1)))
#endif

inline beat(g) {                /* it writes the whole row: another start may have replaced it */
#ifdef X_BEAT_FINDS_NO_ROW
	if :: left[ROW(g)] -> left[ROW(g)] = g+RES+1 :: else fi
#else
	left[ROW(g)] = g+RES+1
#endif
}

inline promise(g) {             /* at a start, and with a new configuration: a row that owes no more is replaced */
#ifdef X_REPLACES_ANY
	left[0] = 0; left[1] = 0;
#else
	if :: g == LONG -> left[ROW(SHORT)] = 0 :: else fi;
#endif
	left[ROW(g)] = g+RES+1
}

proctype server(byte id) {
	byte n = 0;
	do
	:: n == OPS -> break
	:: n < OPS -> n++;
		if :: grace[id] = LONG :: grace[id] = SHORT fi;
#ifndef X_LATE_ROW
		d_step { true -> promise(grace[id]); joined[id] = 1 };
#endif
		do
		:: d_step { there && seen[id] -> lease[id] = grace[id]+1 };         /* GET: memory, or written; then look */
			if
			:: d_step { there -> keep = MAX(keep, lease[id]); lease[id] = 0 }
			:: d_step { !there -> lease[id] = 0 }
			fi
		:: d_step { there && !seen[id] -> idle = 0; seen[id] = RES+1; lease[id] = grace[id]+1 };
			if
			:: d_step { there -> keep = MAX(keep, lease[id]); lease[id] = 0 }
			:: d_step { !there -> lease[id] = 0 }
			fi
		:: d_step { !there -> there = 1; idle = 0; seen[id] = RES+1; keep = MAX(keep, grace[id]+1) }      /* PUT */
		:: d_step { grace[id] == LONG -> grace[id] = SHORT; promise(grace[id]); joined[id] = 1 }      /* a reload */
		:: d_step { !joined[id] -> promise(grace[id]); joined[id] = 1 }
		:: break
		od;
		lease[id] = 0;
		d_step { true ->                                                /* the end: memory goes, the row stays */
#ifdef X_LEAVES
			left[ROW(grace[id])] = 0;
#endif
			joined[id] = 0; seen[id] = 0; grace[id] = 0 }
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
		down(left[0]); down(left[1]);
		if :: joined[0] -> beat(grace[0]) :: else fi;
		if :: joined[1] -> beat(grace[1]) :: else fi }
	od
}

init { atomic { run server(0); run server(1); run gc(); run clock() } }
