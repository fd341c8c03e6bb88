/*
 * A GET of a layer's bytes is also a use of the last used image of that repository that holds it, and of no other.
 *
 * One repository: an index I over a manifest C, and an image J. C and J hold the layer link K, and C holds Q, too.
 * Clients read I, C and J by their names, ask for K (HEAD), and read bytes of K and Q for as long as they like. A GET
 * of bytes writes its image and not the link, and memory answers for the other layers of that manifest from then on.
 * Time is as in recency.pml; here nothing is retired, since that model covers it: what is asked is how old the rows may
 * be. `last` is what really was used when.
 */
#define TTL 2
#define RES 1
#define NAME (TTL+RES+1)        /* age of a row that was used now */
#ifndef OPS
#define OPS 2                   /* requests of each client, but for one more */
#endif

#define I 0
#define C 1
#define J 2
#define K 3
#define Q 4
#define BYTES(k) (k+2)          /* of K and Q */

byte age[5];                    /* the rows */
byte seen[7];                   /* memory of the server: written less than RES ago; 5, 6: the bytes of K and Q */
byte last[3];                   /* I, C, J: the last use that any client made */
byte least[5];                  /* the last use that must count; of images that memory cannot tell apart, none */

#define MAX(a,b) (a > b -> a : b)
#define LEFT(o)  (age[o] > TTL -> age[o]-TTL : 0)       /* how long memory may answer for a row */

inline row(o) { age[o] = NAME }
inline used(o) { last[o] = NAME; least[o] = NAME }

inline get(o) {                 /* a manifest by its name */
	d_step {
		!seen[o] -> seen[o] = RES+1; row(o); used(o);
		if :: o == I -> row(C); used(C) :: else fi
	}
}
inline again(o) {               /* from memory */
	d_step {
		seen[o] -> used(o);
		if :: o == I -> used(C) :: else fi
	}
}

#ifdef X_HEAD_ANSWERS
#define SEEN(k) (seen[BYTES(k)] || seen[k])     /* one memory for both */
#else
#define SEEN(k) seen[BYTES(k)]
#endif

/* memory answers as long as for the row that was written longest ago: what keeps the manifest */
#ifdef X_LOWER_IMAGE
#define TOP C
#else
#define TOP I
#endif
#ifdef X_FROM_READ
#define NOTED(o) RES+1
#else
#define NOTED(o) LEFT(o)
#endif

/* written to one image, unless that was done within the resolution: the last used manifest, and what keeps it */
inline hold(k) {
#ifdef X_NO_IMAGE
	seen[BYTES(k)] = RES+1
#else
	if
	:: k == Q || age[C] >= age[J] ->
#ifdef X_MANIFEST_ONLY
		row(C);
		seen[BYTES(K)] = RES+1; seen[BYTES(Q)] = RES+1
#else
		if :: LEFT(TOP) :: else -> row(C); row(I) fi;
		seen[BYTES(K)] = MAX(seen[BYTES(K)], NOTED(TOP)); seen[BYTES(Q)] = MAX(seen[BYTES(Q)], NOTED(TOP))
#endif
	:: else ->
		if :: LEFT(J) :: else -> row(J) fi;
		seen[BYTES(K)] = MAX(seen[BYTES(K)], NOTED(J))
#ifdef X_ALL_PARTS
		; seen[BYTES(Q)] = MAX(seen[BYTES(Q)], NOTED(J))
#endif
	fi
#endif
#ifdef X_ALL_IMAGES
	; row(C); row(I); row(J)
#endif
}

/* what a reader of the specification expects; rows are up to RES older than the uses, so images so near are alike */
inline expect(k) {
	least[k] = NAME;
	if
	:: k == Q || last[C] > last[J]+RES -> used(C); used(I)
	:: k == K && last[J] > last[C]+RES -> used(J)
	:: else -> last[C] = NAME; last[I] = NAME; last[J] = NAME
	fi
}

proctype client() {
	byte n = 0;
	do
	:: n == OPS+1 -> break
	:: n < OPS+1 -> n++;
		if
		:: get(I)
		:: again(I)
		:: get(C)
		:: again(C)
		:: get(J)
		:: again(J)
		:: d_step { true -> if :: !seen[K] -> row(K); seen[K] = RES+1 :: else fi }         /* HEAD: the link alone */
		:: d_step { !SEEN(K) -> hold(K); expect(K) }
		:: d_step { SEEN(K) -> expect(K) }
		:: d_step { !SEEN(Q) -> hold(Q); expect(Q) }
		:: d_step { SEEN(Q) -> expect(Q) }
		:: true
		fi
	od;
	n = 0
}

inline down(x) { if :: x -> x-- :: else fi }

proctype clock() {
	do
	:: d_step {
		down(age[0]); down(age[1]); down(age[2]); down(age[3]); down(age[4]);
		down(seen[0]); down(seen[1]); down(seen[2]); down(seen[3]); down(seen[5]); down(seen[6]);
		down(last[0]); down(last[1]); down(last[2]);
		down(least[0]); down(least[1]); down(least[2]); down(least[3]); down(least[4]) }
	od
}

proctype asked() {
	d_step {
		age[I] > last[I] || age[C] > last[C] || age[J] > last[J] ->     /* S6: nothing is younger than its last use */
		assert(false)
	}
}

/* a link inherits from what holds it, so it lives as long as the youngest */
#define LINK_AGE(k) MAX(age[k], MAX(age[C], (k == K -> age[J] : 0)))

proctype promised() {
	d_step {
		age[I]+RES < least[I] || age[C]+RES < least[C] || age[J]+RES < least[J] || /* S1: nor older, but for RES */
			LINK_AGE(K)+RES < least[K] || LINK_AGE(Q)+RES < least[Q] ->
		assert(false)
	}
}

init {
	atomic {
		run client(); run client(); run clock(); run asked(); run promised()
	}
}
