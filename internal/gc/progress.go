package gc

import "github.com/jc-lab/docker-cache-server/internal/index"

// Phase is what a run is busy with.
type Phase uint8

// The phases, in the order in which a run reaches them. Removing and Syncing know their end.
const (
	Queueing  Phase = iota + 1 // behind another gc
	Scanning                   // the server does: it starts, or compares its index with the disk
	Comparing                  // the index with the disk; only without a server
	Checking                   // every file, for a repair
	Planning
	Removing
	Syncing  // the directories from which names were removed
	Emptying // the trash, which frees the bytes of the removed files
)

func (p Phase) String() string {
	return [...]string{"", "waiting for another dcs gc", "waiting for the server to finish scanning the disk",
		"comparing the index with the disk", "checking the store", "planning", "removing", "syncing directories",
		"freeing the space"}[p]
}

// Progress is how far a run is.
type Progress struct {
	Phase Phase
	Done  int64 // objects seen, planned or gone through; directories synced
	Total int64 // 0: not known
	Bytes int64 // of the blob files removed
}

// step reports one more step of an execution.
func (x *execution) step() {
	x.done++
	x.tell(Progress{Phase: Removing, Done: x.done, Total: x.plan.steps(), Bytes: x.result.FreedBytes})
}

func (c *Collector) tell(p Progress) {
	if c.OnProgress != nil {
		c.OnProgress(p)
	}
}

// steps is how many things a plan lists.
func (p *Plan) steps() int64 {
	n := len(p.Uploads)
	for _, rows := range [][]index.Row{p.Tags, p.Manifests, p.Layers, p.Blobs} {
		n += len(rows)
	}
	return int64(n)
}
