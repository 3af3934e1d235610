package wiretest

import "time"

// Held makes a call whose answer comes late: done, which may use another way to the server, waits until the server has done what is asked. late is how
// long ago that was, at least, when the answer came.
func Held[T any](w *Wire, done func(), call func() (T, error)) (answer T, late time.Duration, err error) {
	w.Set(Late)
	over := make(chan struct{})
	go func() {
		defer close(over)
		answer, err = call()
	}()
	done()
	begun := time.Now()
	w.Set(Whole)
	late = time.Since(begun)
	<-over
	return answer, late, err
}
