// Opens the model of a bundle with the settings that it was checked with, and runs it.
package com.example.starter

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import org.json.JSONArray
import org.json.JSONObject

/** What a program gives for one case of the self-test. Token ids and labels may not exist. */
class Answer(
    val tokens: List<Long>?,
    val outputs: Map<String, Output>,
    val labels: List<String>?,
)

/** An array that the model gave, flattened; integers become floats. */
class Output(val shape: List<Long>, val values: FloatArray)

fun readJson(file: File) = JSONObject(file.readText())

fun <T> JSONArray.map(each: JSONArray.(Int) -> T): List<T> = List(length()) { each(it) }

/** Empty where it cannot be read: then the exact kernels run, a little slower on some CPUs. */
fun cpuInfo(): String = File("/proc/cpuinfo").runCatching { readText() }.getOrDefault("")

/** Which of the bundle's session settings this CPU needs for exact kernels. */
private fun cpuClass(): String = when {
    System.getProperty("os.arch") == "aarch64" -> "aarch64"
    Regex("avx512_vnni|avx_vnni") in cpuInfo() -> ""
    else -> "x86_64-without-vnni"
}

/** An unpacked bundle, opened. onnxruntime maps the weights from their file. */
class Session(folder: File) : Closeable {
    val record: JSONObject = readJson(File(folder, "bundle.json")).getJSONObject("artifact")
    private val session = OrtSession.SessionOptions().use { options ->
        val settings = record.getJSONObject("settings")
        val byCpu = settings.optJSONObject("session_by_cpu")
        val entries = settings.optJSONObject("session") ?: byCpu?.optJSONObject(cpuClass())
        entries?.names()?.map { getString(it) }?.forEach { name ->
            options.addConfigEntry(name, entries.getString(name))
        }
        environment.createSession(File(folder, "model.onnx").path, options)
    }

    /** The names of the inputs. */
    val inputs: Set<String> get() = session.inputNames

    /** The outputs by name; closes the inputs. */
    fun run(feeds: Map<String, OnnxTensor>): Map<String, Output> = try {
        session.run(feeds).use { result ->
            result.associate { (name, value) -> name to copied(value as OnnxTensor) }
        }
    } finally {
        feeds.values.forEach(OnnxTensor::close)
    }

    /** Writes every output into an array that stays; closes none. */
    fun run(feeds: Map<String, OnnxTensor>, into: Map<String, OnnxTensor>) =
        session.run(feeds, emptySet<String>(), into).close()

    override fun close() = session.close()

    companion object {
        val environment: OrtEnvironment = OrtEnvironment.getEnvironment()
    }
}

private fun copied(tensor: OnnxTensor): Output {
    val bytes: ByteBuffer by lazy { tensor.byteBuffer }
    val values = when (val type = tensor.info.type) {
        OnnxJavaType.FLOAT, OnnxJavaType.FLOAT16 -> tensor.floatBuffer.run { numbers { get() } }
        OnnxJavaType.DOUBLE -> tensor.doubleBuffer.run { numbers { get().toFloat() } }
        OnnxJavaType.INT64 -> tensor.longBuffer.run { numbers { get().toFloat() } }
        OnnxJavaType.INT32 -> tensor.intBuffer.run { numbers { get().toFloat() } }
        OnnxJavaType.INT16 -> tensor.shortBuffer.run { numbers { get().toFloat() } }
        OnnxJavaType.INT8 -> bytes.numbers { bytes.get().toFloat() }
        OnnxJavaType.UINT8, OnnxJavaType.BOOL -> bytes.numbers { bytes.get().toUByte().toFloat() }
        else -> error("an output is $type, which Session.kt does not convert")
    }
    return Output(tensor.info.shape.toList(), values)
}

private fun java.nio.Buffer.numbers(next: () -> Float) = FloatArray(remaining()) { next() }
