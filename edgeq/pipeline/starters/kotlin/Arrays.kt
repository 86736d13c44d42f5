// A model from arrays to arrays.
package com.example.starter

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext
import org.json.JSONObject

class Model private constructor(private val folder: File) : Closeable {
    private val session = Session(folder)

    /** The outputs by name; closes the inputs. */
    suspend fun run(feeds: Map<String, OnnxTensor>): Map<String, Output> =
        withContext(Dispatchers.Default) { session.run(feeds) }

    /** The answer to the arrays of the self-test. */
    suspend fun answer(case: JSONObject): Answer = Answer(null, run(sample()), null)

    /** The arrays in `inputs`, next to the bundle. */
    private fun sample(): Map<String, OnnxTensor> {
        val inputs = File(folder.parentFile, "inputs")
        val described = readJson(File(inputs, "inputs.json"))
        return session.inputs.associateWith { name ->
            val array = described.getJSONObject(name)
            val bytes = File(inputs, array.getString("file")).readBytes()
            val direct = ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder())
            direct.put(bytes).rewind()
            val shape = array.getJSONArray("shape").map { getLong(it) }.toLongArray()
            val type = TYPES.getValue(array.getString("dtype"))
            OnnxTensor.createTensor(Session.environment, direct, shape, type)
        }
    }

    /** Lines with the shape and first value of each output, for the arrays in `inputs`. */
    suspend fun show(texts: List<String>): List<String> = run(sample()).map { (name, output) ->
        "$name: ${output.shape.joinToString(" ")}, first value ${output.values.firstOrNull()}"
    }

    override fun close() = session.close()

    companion object {
        /** Open an unpacked bundle. */
        suspend fun load(folder: File): Model = withContext(Dispatchers.IO) { Model(folder) }

        val samples = emptyList<String>()
    }
}

private val TYPES = mapOf(
    "float32" to OnnxJavaType.FLOAT,
    "float64" to OnnxJavaType.DOUBLE,
    "float16" to OnnxJavaType.FLOAT16,
    "int64" to OnnxJavaType.INT64,
    "int32" to OnnxJavaType.INT32,
    "int16" to OnnxJavaType.INT16,
    "int8" to OnnxJavaType.INT8,
    "uint8" to OnnxJavaType.UINT8,
    "bool" to OnnxJavaType.BOOL,
)
