// Package failpoint names the places at which a process may be killed, or stopped, to see what others make of that. points.txt lists those that the
// crash program needs to be reached; `make crash` reads it.
//
// Built without the tag failpoints, as all that is released, a point is nothing. With it, a process that is told a folder by
// OUTRIGGER_FAILPOINTS kills itself at the point NAME if it finds the file armed/NAME there. It moves that to hit/NAME first, so that one
// process of several dies of it, and whoever armed it learns that it was reached. Likewise it stops itself if it finds the file freeze/NAME,
// and writes its id to frozen/NAME; it goes on from there with SIGCONT.
package failpoint
