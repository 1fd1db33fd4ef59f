from externref._core cimport VMExternRef
