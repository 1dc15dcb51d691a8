package changes

import "slices"

// OIDs of types that are more than a text to us. They are the same in every database.
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidOID         = 26
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidVarchar     = 1043
	oidTimestamp   = 1114
	oidTimestampTZ = 1184
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802

	firstUserOID = 16384 // of what was created after initdb
)

// wide tells whether the type, or that of an array's elements, holds numbers that JavaScript rounds.
func (t *Type) wide() bool {
	for t.Elem != nil {
		t = t.Elem
	}
	return t.Base == oidInt8 || t.Base == oidNumeric
}

// sameText tells whether two values of the type are equal just where their texts are, however the second is spelled by whoever
// compares with it. (There are types whose values have one text each, but take others for input.)
func (t *Type) sameText() bool {
	return t.Exact && t.Elem == nil && (slices.Contains([]uint32{oidText, oidVarchar}, t.Base) || t.Base >= firstUserOID)
}
