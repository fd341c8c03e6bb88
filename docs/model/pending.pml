/*
 * Late names: a layer waits in `pending` after its 201, and gets its name, like a manifest, from the publisher.
 *
 * One layer (its blob B and its link L) and a manifest M over it, with its tag. A d_step is one transaction of the
 * index with the renames inside it, or one sync. A sync makes sure what was done before it began, so it works where it
 * begins. A kill leaves the page cache as it is. After a power loss a name that no sync covered may be there or not,
 * and bytes that no sync covered may be others. Each -DX_... takes one law away; README.md says what then fails.
 *
 * -DKILL   the server is killed once, at any step, and starts again
 * -DPOWER  the power is lost once, at any step
 * -DLOOSE  the file system keeps no order of names: each may survive a power loss without those before it, so that
 *          manifests get their names after one more sync. Else those that survive are the first of them
 * -DFAULT  one sync fails: the kernel takes bytes that it could not write for written, and the next sync says nothing.
 *          With -DLOOSE so it does with names. Else a file system that could not write a name takes no more of them
 */
#define GRACE 1                 /* ticks that a promise holds */
#define RES   1
#ifndef OPS
#define OPS 2                   /* requests of each client */
#endif

#define B 0
#define L 1
#define M 2

#define NONE    0               /* bytes of a file */
#define DIRTY   1
#define SURE    2
#define DROPPED 3               /* a sync of them failed */
#define BAD     4

bool row[3], name[3], sure[3];  /* index; tree; the name survives a power loss */
bool taken[3];                  /* the kernel takes the name for written, and it is not */
byte age[3];                    /* 0: older than the cutoff */
byte blob, manifest;            /* bytes of what has the names B and M */
byte came[2];                   /* bytes of an upload of each client */
byte held[2];                   /* and of its file in pending, NONE: there is none */
byte staged;                    /* of a manifest that waits */
bool mem[2];                    /* the server knows what is pending */
bool answered, refused;         /* to the client whose manifest it was */
byte keep, keepM;               /* >0: the layer, the manifest is promised */
byte left[3];                   /* of the lease under which a request runs; [2]: that of the manifest that was placed */
bool whole, acked;              /* the promise of the layer, of the manifest holds after a power loss */
bool gone;                      /* a client deleted the layer, and none pushed it since */
bool up = 1, kill[3];
byte faults = 1;

#define MAX(a,b)    (a > b -> a : b)
#define PENDING     (mem[0] || mem[1])
#define REFERRED(o) ((o == B && row[L]) || (o == L && row[M]))
#define DEAD(o)     (row[o] && age[o] == 0 && !REFERRED(o))

inline stamp(o) { row[o] = 1; age[o] = GRACE+RES+1 }

inline unlink(o) {              /* S1, S2: asked whenever a file goes */
	if
	:: name[o] && o == M -> assert(!keepM); acked = 0; manifest = NONE
	:: name[o] && o != M -> assert((!keep || held[0] || held[1]) && !name[M]);
		whole = 0; if :: o == B -> blob = NONE :: else fi
	:: else
	fi;
	name[o] = 0; sure[o] = 0; taken[o] = 0; row[o] = 0
}

/* ok: the layer is there, and promised. What is pending needs no lease, since placing it is a use */
inline find() {
#ifdef X_TREE_FIRST
	d_step { ok = name[L] && name[B]; if :: ok -> stamp(L); stamp(B); keep = GRACE+1 :: else fi };
	if
	:: ok
	:: else -> d_step { ok = PENDING; if :: ok -> keep = GRACE+1 :: else fi }
	fi
#else
	d_step { ok = PENDING; if :: ok -> keep = GRACE+1 :: else fi };
	if
	:: ok
	:: else ->
		d_step { left[id] = GRACE+1; found = row[L]; if :: found -> stamp(L) :: else fi };
		d_step {
			ok = name[L] && name[B];
			if :: ok && !found -> stamp(L); stamp(B) :: else fi;
			if :: ok -> keep = MAX(keep, left[id]) :: else fi }
	fi
#endif
}

proctype client(byte id) {
	byte n = 0; bool ok, found, due;
again:
	{
	do
	:: n == OPS -> break
	:: d_step { n < OPS && up -> n++; ok = 0; found = 0; due = 0; left[id] = 0 };
		if
		:: came[id] = DIRTY;                                  /* upload; at its end its file goes to pending: 201 */
			d_step {
				if
#ifndef X_FAULT_GOES_ON
				:: came[id] == DROPPED
#endif
				:: else -> held[id] = came[id]; mem[id] = 1; keep = GRACE+1; gone = 0; whole = 0
				fi;
				came[id] = NONE }

		:: due = (keep > 0);                                  /* HEAD */
			find();
			d_step { assert(ok || !due || !keep) }            /* S1 */

		:: due = (keep > 0);                                  /* PUT manifest: look, stage, wait */
			find();
			d_step { assert(ok || !due || !keep) };
			if
			:: d_step { ok && !staged -> staged = DIRTY; answered = 0; refused = 0; due = (keep > 0) };
				d_step { answered -> assert(!refused || !due || !keep); answered = 0 }
			:: !ok || staged
			fi

		:: d_step {                                           /* DELETE of the layer: what waits is published first */
#ifndef X_DELETE_PENDING
				!held[0] && !held[1] ->
#else
				true ->
#endif
				if
				:: !row[M] && !staged -> gone = 1; keep = 0; left[0] = 0; left[1] = 0; unlink(L)
				:: else
				fi }
		fi
	od
	} unless { kill[id] };
	if
	:: d_step { kill[id] -> kill[id] = 0; left[id] = 0; came[id] = NONE }; goto again
	:: n == OPS
	fi
}

inline settle(x) { if :: x == DIRTY -> x = (good -> SURE : DROPPED) :: else fi }

inline sync() {
	atomic {
		if
		:: good = 1
#ifdef FAULT
		:: faults -> faults--; good = 0
#endif
		fi;
		settle(came[0]); settle(came[1]); settle(held[0]); settle(held[1]);
		settle(staged); settle(blob); settle(manifest);
		if
		:: good -> sure[B] = name[B] && !taken[B]; sure[L] = name[L] && !taken[L]; sure[M] = name[M] && !taken[M];
			whole = whole || (sure[B] && sure[L])
		:: else
#ifdef LOOSE
			taken[B] = name[B] && !sure[B]; taken[L] = name[L] && !sure[L]; taken[M] = name[M] && !sure[M]
#endif
		fi }
}

inline placeLayer(i) {          /* the blob, then its link. A layer leaves pending by the rename, and that is a use */
	if
	:: a[i] && held[i] ->
		assert(!gone);
#ifdef X_PLACE_NO_USE
		if :: row[B] :: else -> stamp(B) fi; if :: row[L] :: else -> stamp(L) fi;
#else
		stamp(B); stamp(L);
#endif
		blob = held[i]; held[i] = NONE;
#ifndef X_LEAVES_LATE
		mem[i] = 0;
#endif
		if :: name[B] :: else -> name[B] = 1 fi;
		if :: name[L] :: else -> name[L] = 1 fi
	:: else
	fi
}

inline placeManifest() {        /* looks again */
	if
	:: !m
#ifndef X_NO_LOOK
	:: m && !(name[L] && name[B]) -> refused = 1; answered = 1; staged = NONE;
		if :: name[M] :: else -> row[M] = 0 fi
#endif
	:: else -> stamp(M); manifest = staged; staged = NONE; name[M] = 1; placed = 1; left[2] = GRACE+1
	fi
}

inline answer() {               /* that both syncs were made */
	d_step {
		if
		:: placed && name[M] -> keepM = MAX(keepM, left[2]); keep = MAX(keep, left[2]); acked = keepM
		:: else
		fi;
		if :: placed -> answered = 1 :: else fi;
		placed = 0 }
}

inline takeBack(o) { if :: taken[o] -> unlink(o) :: else fi }

inline drop() {                 /* a sync failed: what it may have covered is not there. No promise of it holds */
	d_step {
		held[0] = NONE; mem[0] = 0; held[1] = NONE; mem[1] = 0; keep = 0; left[0] = 0; left[1] = 0;
#ifndef X_NAMES_STAY
		takeBack(M); takeBack(L); takeBack(B);
#endif
		if :: staged || placed -> refused = 1; answered = 1 :: else fi;
		staged = NONE; placed = 0 }
}

proctype publisher() {
	bool a[2], m, placed, good; /* the group: layers, a manifest; a manifest of the group before */
again:
	{
	do
	:: up && (PENDING || staged || placed || a[0] || a[1]);   /* a: names of layers that no sync covered */
		d_step { a[0] = mem[0] && held[0]; a[1] = mem[1] && held[1]; m = staged };
		d_step {
			if :: a[0] || a[1] -> stamp(B); stamp(L) :: else fi;
			if :: m -> stamp(M) :: else fi };
#ifdef X_TAG_FIRST
		d_step { placeLayer(0); placeLayer(1); placeManifest(); m = 0; a[0] = 0; a[1] = 0 };
#endif
		sync();
#ifdef X_RETRY
		if :: good :: !good -> sync() fi;
#endif
		if
		:: good ->
			answer();
#if defined(LOOSE) && !defined(X_ONE_PHASE)
			d_step { placeLayer(0); placeLayer(1) };
			if :: m -> sync() :: else fi;
			if :: good -> d_step { placeManifest() } :: else -> drop() fi
#else
			d_step { placeLayer(0); placeLayer(1); placeManifest() }
#endif
#ifdef X_LEAVES_LATE
			; d_step { if :: a[0] -> mem[0] = held[0] :: else fi; if :: a[1] -> mem[1] = held[1] :: else fi }
#endif
		:: else -> drop()
		fi
	od
	} unless { kill[2] };
	d_step { kill[2] -> kill[2] = 0; a[0] = 0; a[1] = 0; m = 0; placed = 0; good = 0 };
	goto again
}

proctype sweeper() {
	do
	:: d_step { DEAD(B) -> unlink(B) }
	:: d_step { DEAD(L) -> unlink(L) }
	:: d_step { DEAD(M) -> age[L] = MAX(age[L], age[M]); unlink(M) }
	od
}

inline down(x) { if :: x -> x-- :: else fi }

proctype clock() {
	do
	:: d_step {
		down(age[0]); down(age[1]); down(age[2]); down(keep); down(keepM); down(left[0]); down(left[1]); down(left[2]);
		if :: !keepM -> acked = 0 :: else fi }
	od
}

/* what is left of bytes, and of names, when the power is lost */
inline tear(x) { if :: x == NONE || x == SURE :: x == DIRTY :: x == DIRTY || x == DROPPED -> x = BAD fi }
inline lose(o) { if :: name[o] && !sure[o] -> name[o] = 0 :: true fi }

#if defined(KILL) || defined(POWER)
proctype crash() {
	d_step { up = 0; kill[0] = 1; kill[1] = 1; kill[2] = 1;
		mem[0] = 0; mem[1] = 0; came[0] = NONE; came[1] = NONE; staged = NONE; answered = 0; refused = 0 };
	d_step { !kill[2] -> skip };
#ifdef POWER
	atomic {
		tear(blob); tear(manifest); tear(held[0]); tear(held[1]);
		if :: held[0] == DIRTY -> held[0] = NONE :: true fi;    /* nor was the name in pending sure */
		if :: held[1] == DIRTY -> held[1] = NONE :: true fi;
#ifdef LOOSE
		lose(B); lose(L); lose(M);
#else
		lose(M);
		if :: !name[M] || sure[M] -> lose(L) :: else fi;
		if :: !name[L] || sure[L] -> lose(B) :: else fi;
#endif
		if :: !name[B] -> blob = NONE :: else fi;
		if :: !name[M] -> manifest = NONE :: else fi;
		if :: !whole && !acked -> keep = 0 :: else fi;
		if :: !acked -> keepM = 0 :: else fi;
		sure[B] = name[B]; sure[L] = name[L]; sure[M] = name[M];
		row[B] = name[B]; row[L] = name[L]; row[M] = name[M]    /* rebuilt, behind the gate */
	};
#endif
	d_step {                                                  /* a start reads what is pending, all of it */
#ifndef X_BLIND_START
		if :: held[0] == BAD -> held[0] = NONE :: else fi;
		if :: held[1] == BAD -> held[1] = NONE :: else fi;
#endif
#ifdef X_FORGET
		held[0] = NONE; held[1] = NONE;
#endif
		mem[0] = held[0]; mem[1] = held[1]; up = 1 };
	d_step {                                                  /* S1, S2, and late names */
		assert(blob != BAD && manifest != BAD);
		assert(!name[M] || (name[L] && name[B]));
		assert(!acked || !keepM || name[M])
	}
}
#endif

init {
	atomic {
		run client(0); run client(1); run publisher(); run sweeper(); run clock();
#if defined(KILL) || defined(POWER)
		run crash();
#endif
	}
}
