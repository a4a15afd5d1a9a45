// Package report writes what berth found and did, for people and for scripts.
//
// Each kind of value has one file with both of its forms: a type that
// [Encode] writes as one line of JSON, and a method of [Text] that writes
// sentences and columns. The two are made from the same netstate, reclaim and
// gatewaylaunch values, so they cannot disagree.
//
// JSON is snake_case, times are RFC 3339 in UTC, durations are integers whose
// names end in _ms, and what is not known is null.
//
// Text has the answer first and moving numbers last. No symbol and no colour
// says anything that a word beside it does not. Whatever another process
// chose (its name, its command line, its output) is cleaned here before it is
// written.
package report
