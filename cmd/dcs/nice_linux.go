package main

import (
	"os"
	"strconv"
	"syscall"
)

// giveWay lets other processes have the processor first, such as a server beside a gc: a run that takes what they leave
// takes longer and holds up no pull. A thread that is made later has the niceness of the one that made it.
func giveWay() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if now, err := syscall.Getpriority(syscall.PRIO_PROCESS, id); err == nil && 20-now < niceness {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, niceness) // it only costs time
		}
	}
}

// niceness is of a run: a busy processor gives it a tenth of what another process gets. With more, a server would wait
// for a transaction of the run that itself waits for the processor.
const niceness = 10
