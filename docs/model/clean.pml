/*
 * When a gc without a server need not walk the tree: clean marks.
 *
 * A blob B that is old, with its row. A manifest M over it comes and goes: its name is a file in a directory of its own
 * (`own`), which is in a directory of many. Only that one is looked at: when it was changed last (`many`), and how many
 * directories it has (`count`). Another registry places M and deletes it, and its delete leaves `own` behind. A server
 * places M with its row, or is killed before the row is committed. Ticks are those of the file system's clock: changes
 * of one tick carry one time.
 *
 * A run of gc lifts the mark, looks, walks unless all is as the mark says, removes, and marks. It looks before and
 * after each removal, and takes the difference for its own. It may be killed anywhere. Each -DX_... takes one law
 * away; README.md says what then fails.
 *
 * -DTAG       M is what a tag points to: its link is looked at itself, which a registry writes in place
 */
#ifndef RUNS
#define RUNS 3
#endif
#define TICKS 3                 /* the clock stops at the last: who waits for it waits for ever */
#define NEVER 9                 /* no tick */

bool fileM, own, rowM;          /* M: its name, its directory, its row; those of B are there until a run removes them */
bool rowB = 1;
byte many;                      /* when the directory of many was changed last */
byte count = RUNS;              /* its directories: enough of others for each run to remove one */
byte tick;
byte mark = NEVER, markCount;   /* what a run left that ended cleanly */
bool boot, booted;              /* the boot of now, and that of the mark */
bool running;                   /* a gc */
bool had;                       /* M was there when its run began, and was not deleted since */
bool served;                    /* a server */
byte kept = NEVER, keptCount;   /* the index as it is on the disk */
bool keptBoot, keptRow;
byte manyOnDisk;

#ifdef X_COUNTLESS
#define COUNT 0
#else
#define COUNT count
#endif

#ifdef TAG
inline place() { fileM = 1; own = 1; many = tick }
inline delete() { fileM = 0; own = 0; many = tick; had = 0 }    /* it points to something else */
#else
inline place() {                /* a directory that is there gets the file unseen */
	fileM = 1;
	if :: own :: else -> own = 1; count++; many = tick fi
}
inline delete() { fileM = 0; had = 0 }                          /* `own` stays */
#endif

proctype stock() {
	byte n;
end:
	do
	:: d_step { n < 3 && !fileM && rowB -> place(); n++ }
	:: d_step { n < 3 && fileM -> delete(); n++ }
	od
}

inline lift() {
#ifndef X_NOT_LIFTED
	mark = NEVER
#else
	skip
#endif
}

proctype server() {             /* it starts, compares, places M, and is killed or ends */
end:
	d_step { !running -> served = 1; lift() };
	d_step { rowM = fileM };
	if
	:: d_step { rowB -> place(); rowM = 1 }
	:: d_step { rowB -> place() }           /* killed between rename and commit */
	:: true
	fi;
	served = 0
}

inline look() { now = many; nowCount = COUNT }

inline before() { seen = many; seenCount = COUNT }

inline after() {                /* what changed between the looks is its own, unless a name came as well */
#ifndef X_BLIND
	if :: now == seen && nowCount == seenCount :: else -> told = 0 fi;
#endif
#if !defined(X_ABSORBED) && !defined(X_COUNTLESS)
	if :: count + 1 == seenCount :: else -> told = 0 fi;
#endif
	look()
}

inline collect() {
	told = 1;
	d_step { was = mark; wasCount = markCount; wasBoot = booted; lift() };
	d_step { had = fileM; look() };
	if
#if defined(X_TRUSTED)
	:: was != NEVER
#elif defined(X_BOOT)
	:: was == now && wasCount == nowCount
#else
	:: was == now && wasCount == nowCount && wasBoot == boot
#endif
	:: else ->
#ifndef X_SAME_TICK
		tick > now;
#endif
		d_step { rowM = fileM;                  /* the walk */
#ifndef X_HOLLOW
			told = (fileM == own)
#endif
		}
#ifdef X_LOOK_LATE
		;
		d_step { look() }                       /* what the walk did not see is taken for seen */
#endif
	fi;
	if
	:: d_step { rowB && !rowM -> assert(!had); rowB = 0 }           /* S2 */
#ifndef TAG
	:: d_step { rowM && !fileM -> rowM = 0; before() };     /* the row of a manifest that is not there */
		if
		:: d_step { own && !fileM -> own = 0; count--; many = tick };   /* with its directory */
			d_step { after() }
		:: d_step { own && fileM -> told = 0 }          /* it is there again, unseen */
		:: d_step { !own -> skip }
		fi
	:: d_step { count > own -> before() };          /* another one of the directory of many */
		d_step { count--; many = tick };
		d_step { after() }
#endif
	:: true
	fi;
	if
	:: told ->
#ifndef X_SAME_TICK
		tick > now;
#endif
		d_step { mark = now; markCount = nowCount; booted = boot }
	:: true                                         /* killed */
	fi
}

proctype gc() {
	byte n, was, wasCount, now, nowCount, seen, seenCount; bool wasBoot, told;
end:
	do
	:: n == RUNS -> break
	:: n < RUNS -> d_step { !served -> running = 1; n++ };
		collect();
		d_step { running = 0; had = 0; was = 0; wasCount = 0; now = 0; nowCount = 0; seen = 0; seenCount = 0;
			wasBoot = 0; told = 0 }
	od
}

proctype clock() {
end:
	do :: d_step { tick < TICKS -> tick++ } od
}

proctype disk() {               /* what is written reaches the disk at some time; the names are synced */
end:
	do
	:: d_step { kept = mark; keptCount = markCount; keptBoot = booted; keptRow = rowM }
	:: d_step { !booted && !boot -> manyOnDisk = many }
	od
}

proctype power() {              /* it is lost once, between two runs: the index, and times, are what reached the disk */
end:
	d_step { !running && !served ->
		mark = kept; markCount = keptCount; booted = keptBoot; rowM = keptRow; many = manyOnDisk; boot = 1 }
}

init {
	atomic { run stock(); run server(); run gc(); run clock(); run disk(); run power() }
}
