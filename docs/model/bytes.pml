/*
 * A GET of a layer's bytes is also a use of the last used image of that repository that holds it, and of no other.
 *
 * One repository: an index I over a manifest C, and an image J. C and J hold the layer link K. Clients read I, C and
 * J by their names, ask for K (HEAD), and read K's bytes for as long as they like. Time is as in recency.pml; here
 * nothing is retired, since that model covers it: what is asked is how old the rows may be. `last` is what really was
 * used when.
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

byte age[4];                    /* the rows */
byte seen[5];                   /* memory of the server: written less than RES ago; 4: the bytes of K */
byte last[3];                   /* I, C, J: the last use that any client made */
byte least[3];                  /* the last use that must count; of images that memory cannot tell apart, none */
#define BYTES 4

#define MAX(a,b) (a > b -> a : b)

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
#define BYTES_SEEN seen[K]      /* one memory for both */
#else
#define BYTES_SEEN seen[BYTES]
#endif

/* written to one image: the manifest that was used last, and what keeps it */
inline hold() {
#ifdef X_ALL_IMAGES
	row(C); row(I); row(J)
#elif defined(X_MANIFEST_ONLY)
	if :: age[C] >= age[J] -> row(C) :: else -> row(J) fi
#elif defined(X_NO_IMAGE)
	skip
#else
	if :: age[C] >= age[J] -> row(C); row(I) :: else -> row(J) fi
#endif
}

/* what a reader of the specification expects; rows are up to RES older than the uses, so images so near are alike */
inline expect() {
	if
	:: last[C] > last[J]+RES -> used(C); used(I)
	:: last[J] > last[C]+RES -> used(J)
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
		:: d_step { !BYTES_SEEN -> hold(); row(K); seen[K] = RES+1; seen[BYTES] = RES+1; expect() }
		:: d_step { BYTES_SEEN -> expect() }
		:: true
		fi
	od;
	n = 0
}

inline down(x) { if :: x -> x-- :: else fi }

proctype clock() {
	do
	:: d_step {
		down(age[0]); down(age[1]); down(age[2]); down(age[3]);
		down(seen[0]); down(seen[1]); down(seen[2]); down(seen[3]); down(seen[4]);
		down(last[0]); down(last[1]); down(last[2]); down(least[0]); down(least[1]); down(least[2]) }
	od
}

proctype asked() {
	d_step {
		age[I] > last[I] || age[C] > last[C] || age[J] > last[J] ->     /* S6: nothing is younger than its last use */
		assert(false)
	}
}

proctype promised() {
	d_step {
		age[I]+RES < least[I] || age[C]+RES < least[C] || age[J]+RES < least[J] -> /* S1: nor older, but for RES */
		assert(false)
	}
}

init {
	atomic {
		run client(); run client(); run clock(); run asked(); run promised()
	}
}
