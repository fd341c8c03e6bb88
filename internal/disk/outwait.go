package disk

import (
	"os"
	"time"
)

// Outwait waits until the clock of a file system has passed a time, so that no later change carries it: milliseconds,
// unless the clock is coarse. It changes the times of a file there. False: the time lies further ahead than the
// resolution of any such clock.
func Outwait(file string, passed time.Time) (bool, error) {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		now := time.Now()
		if err := os.Chtimes(file, now, now); err != nil {
			return false, err
		}
		v, err := VersionOf(file)
		if err != nil {
			return false, err
		}
		changed := time.Unix(0, v.changed)
		if changed.After(passed) {
			return true, nil
		}
		if passed.Sub(changed) > resolution || now.Sub(began) > resolution {
			return false, nil
		}
	}
}
