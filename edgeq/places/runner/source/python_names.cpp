// llama.cpp's library comes as a module of Python's, which names objects of Python's. Only the
// module itself uses them, and nobody opens it as one: any address will do.
#define NAMES(name)                                                                           \
  name(PyBaseObject_Type) name(PyByteArray_Type) name(PyBytes_Type) name(PyCFunction_Type)     \
  name(PyDict_Type) name(PyIter_Next) name(PyList_Type) name(PyLong_Type)                      \
  name(PyMethodDescr_Type) name(PyObject_GenericGetDict) name(PyObject_GenericSetDict)         \
  name(PyTuple_Type) name(PyType_Type) name(PyUnicode_Type) name(PyExc_ArithmeticError)        \
  name(PyExc_AssertionError) name(PyExc_AttributeError) name(PyExc_DeprecationWarning)         \
  name(PyExc_Exception) name(PyExc_IOError) name(PyExc_ImportError) name(PyExc_IndexError)     \
  name(PyExc_KeyError) name(PyExc_MemoryError) name(PyExc_NameError)                           \
  name(PyExc_NotImplementedError) name(PyExc_OverflowError) name(PyExc_RuntimeError)           \
  name(PyExc_RuntimeWarning) name(PyExc_StopIteration) name(PyExc_SystemError)                 \
  name(PyExc_TypeError) name(PyExc_ValueError) name(_Py_FalseStruct) name(_Py_NoneStruct)      \
  name(_Py_TrueStruct)
#define DEFINE(name) void* name[64];

extern "C" {
NAMES(DEFINE)
}
