/*
 * A use of a manifest is recency, and no more, for tags in other repositories that name its digest exactly.
 *
 * Repository 1: a tag K on a manifest M. Repository 2: a tag G, named after M's digest, on a manifest H. With
 * -DMUTUAL K is named after H's digest in its turn. Within a repository the laws are those of recency.pml: a use of a
 * tag or of its manifest is one of both, and a tag keeps its manifest. Time is as in recency.pml.
 */
#define GRACE 1
#define RES   1
#define NAME  (GRACE+RES+1)     /* age of a row that was used now; 0: unused for the grace */
#ifndef OPS
#define OPS 2                   /* requests of each client */
#endif

#define K 0
#define M 1
#define G 2
#define H 3

bool there[4];                  /* row and file */
byte age[4];
byte keep[4];                   /* >0: a client counts on it */
byte last[4];                   /* the last use that counts for the row, or later */
byte left[2];                   /* >0: what is left of the lease under which a client's request runs */

#define MAX(a,b) (a > b -> a : b)
#define TAG(m)   (m-1)
#define YOUNG(m) (age[m] >= NAME-RES)

inline touch(m)  { age[m] = NAME; if :: there[TAG(m)] -> age[TAG(m)] = NAME :: else fi }
inline spread(m) { if :: there[TAG(m)] -> touch(m) :: else fi }     /* to a tag named after another manifest */
inline used(m)   { last[m] = NAME; last[TAG(m)] = NAME }
inline counts(m) {
	if
	:: there[TAG(m)] -> keep[m] = MAX(keep[m], left[id]); keep[TAG(m)] = MAX(keep[TAG(m)], left[id])
	:: else
	fi
}

inline use(m) {
	touch(m); used(m);
	if
	:: m == M -> used(H);
#ifndef X_SIGNATURE_ALONE
		spread(H)
#endif
	:: m == H ->
#ifdef MUTUAL
		used(M); spread(M)
#elif defined(X_BOTH_WAYS)
		spread(M)
#endif
	fi
}

inline answered(m) {
	keep[m] = MAX(keep[m], left[id]); counts(m);
	if
	:: m == M -> counts(H)
	:: m == H ->
#ifdef MUTUAL
		counts(M)
#endif
	fi
}

inline get(m) {                 /* lease from memory or written, then look */
	if
	:: d_step { there[m] && YOUNG(m) -> left[id] = GRACE+1; used(m); if :: m == M -> used(H) :: else fi }
	:: d_step { there[m] -> left[id] = GRACE+1; use(m) }
	fi;
	if
	:: d_step { there[m] -> answered(m); left[id] = 0 }
	:: d_step { !there[m] -> left[id] = 0 }
	fi
}


inline gone(o) { there[o] = 0; age[o] = 0; keep[o] = 0 }

proctype client(byte id) {
	byte n = 0;
	do
	:: n == OPS -> break
	:: n < OPS -> n++;
		if
		:: get(M)
		:: get(H)
		:: d_step { there[M] -> there[K] = 1; use(M) }          /* PUT by tag */
		:: d_step { true -> there[M] = 1; use(M) }
		:: d_step { there[H] -> there[G] = 1; use(H) }
		:: d_step { true -> there[H] = 1; use(H) }
		:: d_step { there[K] -> gone(K) }
		:: d_step { there[M] -> gone(K); gone(M) }              /* the signature stays, until it is old */
		:: d_step { there[G] -> gone(G) }
		:: d_step { there[H] -> gone(G); gone(H) }
		:: true
		fi
	od;
	n = 0
}

#ifdef X_SIGNATURE_EDGE         /* a manifest keeps the tags that are named after it */
#ifdef MUTUAL
#define FREE_K (!there[H])
#else
#define FREE_K true
#endif
#define FREE_G (!there[M])
#else
#define FREE_K true
#define FREE_G true
#endif
#ifdef X_SIGNATURE_HOLD         /* a tag holds the manifest that it is named after */
#define FREE_M (!there[K] && !there[G])
#else
#define FREE_M (!there[K])
#endif
#define FREE_H (!there[G])
#define RETIRE(o, free) :: d_step { there[o] && age[o] == 0 && free -> assert(!keep[o]); gone(o) }    /* S1 */

proctype sweeper() {
	do
	RETIRE(K, FREE_K)
	RETIRE(M, FREE_M)
	RETIRE(G, FREE_G)
	RETIRE(H, FREE_H)
	od
}

inline down(x) { if :: x -> x-- :: else fi }

proctype clock() {
	do
	:: d_step {
		down(age[0]); down(age[1]); down(age[2]); down(age[3]);
		down(keep[0]); down(keep[1]); down(keep[2]); down(keep[3]);
		down(last[0]); down(last[1]); down(last[2]); down(last[3]); down(left[0]); down(left[1]) }
	od
}

proctype forgetting() {
	if
	:: d_step {                                             /* S5: where all is old, something can be retired */
		(there[K] || there[M] || there[G] || there[H]) && !age[0] && !age[1] && !age[2] && !age[3] &&
			!(there[K] && FREE_K) && !(there[M] && FREE_M) && !(there[G] && FREE_G) && !(there[H] && FREE_H) ->
		assert(false) }
	:: d_step { there[M] && !there[K] && age[M] == 0 && !FREE_M -> assert(false) }  /* no other repository keeps M */
	:: d_step { there[G] && age[G] == 0 && !FREE_G -> assert(false) }       /* nor G */
	:: d_step {                                             /* S6: nothing is younger than its last use */
		age[0] > last[0] || age[1] > last[1] || age[2] > last[2] || age[3] > last[3] -> assert(false) }
	fi
}

init {
	atomic {
		if
		:: skip
		:: there[K] = 1; there[M] = 1; there[G] = 1; there[H] = 1
		fi;
		run client(0); run client(1); run sweeper(); run clock(); run forgetting()
	}
}
