/*
 * A subject edge that would close a circle is no edge.
 *
 * Digests cannot name each other both ways, so every circle of manifests that keep each other has a referrer in it.
 * Two kinds: A lists B, B is the subject of P, P lists D, and D is the subject of A; with -DCHAIN: P lists A, A lists
 * D, and D is the subject of P. S is an honest referrer of B. Rows are inserted in any order, as when files are
 * adopted. A row keeps what it lists, whether that has a row or not; a subject keeps its referrers once both have
 * rows. Time is left out: any row may be old, so one that nothing keeps may be retired, and one that something keeps
 * may be deleted by a client. The model runs for ever and has no other bound.
 */
#define A 0
#define B 1
#define D 2
#define P 3
#define S 4
#define BIT(o) (1 << (o))

bool row[5];
bool cut[5];                    /* of a referrer: its subject does not keep it */
byte above, was;                /* set of rows: what keeps a row, and so on upwards */

/* who keeps whom: the set of a row's direct owners */
#define REFERS(r, s) (row[r] && row[s] && !cut[r])
#ifdef CHAIN
#define REFERRER(o) (o == P)
#define OWNERS_A (row[P] << P)
#define OWNERS_B 0
#define OWNERS_D (row[A] << A)
#define OWNERS_P (REFERS(P, D) << D)
#else
#define REFERRER(o) (o == A || o == P)
#define OWNERS_A (REFERS(A, D) << D)
#define OWNERS_B (row[A] << A)
#define OWNERS_D (row[P] << P)
#define OWNERS_P (REFERS(P, B) << B)
#endif
#define OWNERS_S (REFERS(S, B) << B)
#define OWNERS(o) (o == A -> OWNERS_A : (o == B -> OWNERS_B : (o == D -> OWNERS_D : (o == P -> OWNERS_P : OWNERS_S))))

inline climb(o) {
	above = OWNERS(o); was = 0;
	do
	:: above == was -> break
	:: else -> was = above;
		if :: above & BIT(A) -> above = above | OWNERS_A :: else fi;
		if :: above & BIT(B) -> above = above | OWNERS_B :: else fi;
		if :: above & BIT(D) -> above = above | OWNERS_D :: else fi;
		if :: above & BIT(P) -> above = above | OWNERS_P :: else fi
	od;
	was = 0
}

#define CIRCLE(o) (above & BIT(o))

/* a row comes: when it is above itself, a referrer on the circle loses its edge */
inline insert(o) {
	d_step {
		!row[o] -> row[o] = 1; cut[o] = 0;
#ifndef X_CIRCLES
		climb(o);
		if
		:: !CIRCLE(o)
#ifdef X_OWN_EDGE
		:: CIRCLE(o) -> cut[o] = 1                      /* only the edge of the row that comes: it may have none */
#elif defined(X_WIDE)
		:: CIRCLE(o) -> cut[A] = 1; cut[P] = 1; cut[S] = 1 /* of all referrers below, on the circle or not */
#else
		:: CIRCLE(o) && REFERRER(o) -> cut[o] = 1
		:: CIRCLE(o) && !REFERRER(o) ->                 /* closed by what it lists: a referrer above it */
			if
			:: above & BIT(P) -> cut[P] = 1
			:: else -> cut[A] = 1
			fi
#endif
		fi;
		above = 0
#endif
	}
}
#define FREE(o) (OWNERS(o) == 0)

proctype requests() {
	do
	:: insert(A)
	:: insert(B)
	:: insert(D)
	:: insert(P)
	:: insert(S)
	:: d_step { row[A] -> row[A] = 0; cut[A] = 0 }         /* a client's DELETE */
	:: d_step { row[P] -> row[P] = 0; cut[P] = 0 }
	:: d_step { row[S] -> row[S] = 0; cut[S] = 0 }
	:: d_step { row[B] && !row[A] -> row[B] = 0 }           /* refused for what a manifest lists */
	:: d_step { row[D] && !row[P] -> row[D] = 0 }
	od
}

/* S2: no living image loses its referrer */
#define RETIRE(o) :: d_step { row[o] && FREE(o) -> assert(o != S || !row[B]); row[o] = 0; cut[o] = 0 }
proctype sweeper() {
	do
	RETIRE(A)
	RETIRE(B)
	RETIRE(D)
	RETIRE(P)
	RETIRE(S)
	od
}

proctype rest() {               /* S5: where all is old, something can be retired */
	d_step {
		(row[A] || row[B] || row[D] || row[P] || row[S]) && !(row[A] && FREE(A)) && !(row[B] && FREE(B)) &&
			!(row[D] && FREE(D)) && !(row[P] && FREE(P)) && !(row[S] && FREE(S)) -> assert(false)
	}
}

init { atomic { run requests(); run sweeper(); run rest() } }
