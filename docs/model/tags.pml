/*
 * A tag T over two manifests: concurrent PUTs, GET by tag (tag link, then revision link), deletes, expiry.
 * Conventions and time as in protocol.pml. NONE: no tag. fileT is what the link on disk says, rowT what the index
 * says.
 *
 * A use of either is a use of both, written by one statement. So the tag is never older than its manifest, nor the
 * manifest than its tag; the tag's own age decides when it is retired; and a manifest that its tag leaves need not
 * inherit.
 */
#define GRACE 1
#define RES   1
#define SLACK (GRACE+RES)
#define NONE  2
#ifndef OPS
#define OPS 2
#endif

bool row[2], file[2];           /* index, disk */
byte age[2], seen[2];
byte rowT = NONE, fileT = NONE, ageT, seenT;
byte left[2];                   /* lease of each client's running request; a client's DELETE voids it */
byte done;

#define MAX(a,b) (a > b -> a : b)

inline stamp(k) {               /* a use of a manifest, and so of the tag that names it */
	row[k] = 1; age[k] = SLACK+1; seen[k] = RES+1;
#ifndef X_TAG_ALONE
	if :: rowT == k -> ageT = SLACK+1 :: else -> skip fi
#endif
}
inline stampT(k) {              /* a use of the tag, and so of its manifest */
	rowT = k; ageT = SLACK+1; seenT = RES+1;
#ifndef X_MANIFEST_ALONE
	if :: row[k] -> age[k] = SLACK+1 :: else -> skip fi
#endif
}

inline lease(k)  { d_step { if :: !seen[k] && row[k] -> stamp(k) :: else -> skip fi } }
inline leaseT()  { d_step { if :: !seenT && rowT != NONE -> stampT(rowT) :: else -> skip fi } }

proctype client(byte id) {
	byte n = 0, k = 0; bool ok;
	do
	:: n == OPS -> break
	:: n < OPS ->
		d_step { n++; k = 0; ok = 0; left[id] = 0 };
		if :: true :: true -> k = 1 fi;
		if
		:: d_step { stamp(k) };                               /* PUT manifest by tag: revision ... */
			d_step { file[k] = 1; if :: !row[k] -> stamp(k) :: else -> skip fi };
#if defined(X_BLIND_PLACE) || defined(X_EARLY_TAG)
			d_step { stampT(k) };                             /* ... the tag claimed first, as an object would be */
#endif
#ifdef X_BLIND_PLACE
			ok = file[k];
			if :: ok -> fileT = k :: else fi
#else
			d_step {                                          /* ... row and link switched as one, target there */
				if :: file[k] && row[k] -> stampT(k); fileT = k :: else -> skip fi }
#endif
		:: left[id] = GRACE+1;                                /* GET or HEAD by tag, 304 included */
			leaseT();
			k = fileT;
			if
			:: k != NONE ->
				lease(k);
				ok = file[k];
				d_step { assert(ok || !left[id]) }            /* a tag that was read resolves */
			:: else
			fi
		:: d_step { true -> rowT = NONE; fileT = NONE; left[0] = 0; left[1] = 0 }        /* API DELETE tag */
		:: /* API DELETE manifest: its tags with it */
#ifdef X_SPLIT_DELETE
			d_step { file[k] = 0; row[k] = 0; left[0] = 0; left[1] = 0 };
			d_step { if :: fileT == k -> fileT = NONE; rowT = NONE :: else -> skip fi }
#else
			d_step {
				if :: rowT == k -> rowT = NONE :: else -> skip fi;
				if :: fileT == k -> fileT = NONE :: else -> skip fi;
				file[k] = 0; row[k] = 0; left[0] = 0; left[1] = 0 }
#endif
		fi
	od;
	left[id] = 0;
	d_step { k = 0; ok = 0; done++ }
}

proctype sweeper() {
	do
	:: d_step { rowT != NONE && ageT == 0 -> rowT = NONE; fileT = NONE }
	:: d_step { row[0] && age[0] == 0 && rowT != 0 -> assert(fileT != 0); file[0] = 0; row[0] = 0 }   /* S2 */
	:: d_step { row[1] && age[1] == 0 && rowT != 1 -> assert(fileT != 1); file[1] = 0; row[1] = 0 }
	od
}

inline down(x) { if :: x -> x-- :: else fi }
proctype clock() {
	do
	:: d_step {
		down(age[0]); down(age[1]); down(ageT); down(seen[0]); down(seen[1]); down(seenT);
		down(left[0]); down(left[1]) }
	od
}

proctype invariant() {          /* no row is older than what keeps it, or than what it lives by */
	d_step { rowT != NONE && row[rowT] && ageT != age[rowT] -> assert(false) }
}

proctype rest() {               /* at rest the index says what the disk says, and the tag resolves */
	d_step { done == 2 -> assert(rowT == fileT); assert(fileT == NONE || file[fileT]) }
}

init {
	atomic {
		if
		:: skip
		:: row[0] = 1; file[0] = 1; rowT = 0; fileT = 0
		fi;
		run client(0); run client(1); run sweeper(); run clock(); run invariant(); run rest()
	}
}
